"""802.1Q links and VLAN filters of bridges: two nodes joined by a cable, VMs on both, tags on the wire."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.kernel import requires
from tests.support.plumbing import NEEDS_ROOT, address, nic, ping
from tests.support.waiting import eventually
from tests.support.wire import links

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, VmId
from onedock.reconcilers.nic_parts import TrunkPort, Vlan

pytestmark = [*NEEDS_ROOT, requires("8021q")]

A, B, C = VmId(220_300), VmId(220_301), VmId(220_302)
TEN = Vlan("odt-w.10", "odt-w", 10)


@pytest.fixture
def agents(agent: PrivateAgent, other_agent: PrivateAgent) -> Iterator[tuple[PrivateAgent, PrivateAgent]]:
    """Two nodes with a new cable between them."""
    agent.run(["ip", "link", "add", "odt-w", "type", "veth", "peer", "odt-w", "netns", other_agent.netns])
    for one in (agent, other_agent):
        one.run(["ip", "link", "set", "odt-w", "mtu", "1600", "up"])
    yield agent, other_agent
    agent.run(["ip", "link", "del", "odt-w"])


@pytest.fixture
def clients(
    agents: tuple[PrivateAgent, PrivateAgent], client: AgentClient, other_client: AgentClient
) -> tuple[AgentClient, AgentClient]:
    return client, other_client


def link(agent: PrivateAgent, name: str) -> dict[str, Any]:
    found: dict[str, Any] = agent.ip("link", "show", "dev", name)[0]
    return found


def vlans(agent: PrivateAgent, port: str) -> dict[int, list[str]]:
    """VLAN ids that pass a port, with their flags."""
    shown = json.loads(agent.run(["bridge", "-json", "vlan", "show", "dev", port]))
    found: dict[int, list[str]] = {}
    for one in shown[0]["vlans"]:
        for vid in range(one["vlan"], one.get("vlanEnd", one["vlan"]) + 1):
            found[vid] = one.get("flags", [])
    return found


def add_tagged(agent: PrivateAgent, vm: VmId, vlan: int, own: str) -> None:
    """Have a VM use a VLAN inside its NIC."""
    name = f"eth0.{vlan}"
    for words in (
        ["link", "add", "link", "eth0", "name", name, "type", "vlan", "id", str(vlan)],
        ["address", "add", own, "dev", name],
        ["link", "set", name, "up"],
    ):
        agent.run(["ip", *words], netns=f"one-{vm}")


async def test_a_vlan_joins_two_nodes_and_only_itself(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    other = Vlan("odt-w.11", "odt-w", 11)
    here, far = Network(A, (nic(A, uplink=TEN),)), Network(B, (nic(B, uplink=TEN),))
    stranger = Network(C, (nic(C, uplink=other, bridge="odt-br1"),))
    for client, wanted in ((clients[0], here), (clients[1], far), (clients[1], stranger)):
        made = await client.ensure(wanted)
        assert made.provides(wanted)
        assert made == await client.observe(wanted.vm)

    await eventually(lambda: ping(agents[0], A, address(B)), what="the VM in the same VLAN answers")
    assert not ping(agents[0], A, address(C))
    shown = link(agents[0], "odt-w.10")
    assert (shown["master"], shown["mtu"], shown["ifalias"]) == ("odt-br0", 1600, "onedock")
    assert (shown["linkinfo"]["info_data"]["id"], shown["link"]) == (10, "odt-w")
    for client, vm in ((clients[0], A), (clients[1], B), (clients[1], C)):
        await client.remove(vm)
    assert links(agents[1]) == {"lo", "odt-w"}


async def test_a_changed_vlan_changes_the_link_and_not_the_nic(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    agent, client = agents[0], clients[0]
    await client.ensure(Network(A, (nic(A, uplink=TEN),)))
    index = link(agent, f"one-{A}-0")["ifindex"]
    for changed in (
        replace(TEN, mtu=1400),
        replace(TEN, mtu=1400, options=(("gvrp", "1"), ("reorder_hdr", "0"))),
        replace(TEN, options=(("protocol", str(0x88A8)),)),
        Vlan("odt-w.12", "odt-w", 12, mtu=1500),
    ):
        wanted = Network(A, (nic(A, uplink=changed),))
        assert (await client.ensure(wanted)).provides(wanted)
        assert link(agent, f"one-{A}-0")["ifindex"] == index
        shown = link(agent, changed.name)
        assert shown["mtu"] == (changed.mtu or 1600)
        assert ("GVRP" in shown["linkinfo"]["info_data"]["flags"]) == (("gvrp", "1") in changed.options)
        assert links(agent) == {"lo", "odt-w", "odt-br0", f"one-{A}-0", changed.name}


@pytest.mark.parametrize(
    "damage",
    [
        ["ip", "link", "del", "odt-w.10"],
        ["ip", "link", "set", "odt-w.10", "nomaster"],
        ["ip", "link", "set", "odt-w.10", "down"],
        ["ip", "link", "set", "odt-w", "down"],
    ],
)
async def test_damage_is_repaired(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient], damage: list[str]
) -> None:
    here, far = Network(A, (nic(A, uplink=TEN),)), Network(B, (nic(B, uplink=TEN),))
    await clients[0].ensure(here)
    await clients[1].ensure(far)
    agents[0].run(damage)
    assert (await clients[0].ensure(here)).provides(here)
    await eventually(lambda: ping(agents[0], A, address(B)))


async def test_a_link_of_somebody_else_is_used_if_it_fits(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    agent, client = agents[0], clients[0]
    agent.run(["ip", "link", "add", "link", "odt-w", "name", "odt-w.10", "type", "vlan", "id", "10"])
    wanted = Network(A, (nic(A, uplink=TEN),))
    assert (await client.ensure(wanted)).provides(wanted)
    await client.remove(A)
    assert links(agent) == {"lo", "odt-w", "odt-w.10"}
    agent.run(["ip", "link", "del", "odt-w.10"])
    agent.run(["ip", "link", "add", "link", "odt-w", "name", "odt-w.10", "type", "vlan", "id", "9"])
    with pytest.raises(TerminalError, match="is not ONEDock's and no vlan with id 10"):
        await client.ensure(wanted)
    agent.run(["ip", "link", "del", "odt-w.10"])


async def test_a_trunk_carries_its_vlans_and_no_other(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    trunk = TrunkPort((200, 300, 301, 302))
    for vm, client in zip((A, B), clients, strict=True):
        wanted = Network(vm, (nic(vm, phydev="odt-w", trunk=trunk),))
        made = await client.ensure(wanted)
        assert made.provides(wanted)
        assert made == await client.observe(vm)
    assert set(vlans(agents[0], f"one-{A}-0")) == {1, 200, 300, 301, 302}
    assert set(vlans(agents[0], "odt-w")) == {1, 200, 300, 301, 302}
    for vlan, first in ((200, 1), (400, 2)):
        add_tagged(agents[0], A, vlan, f"10.78.{first}.1/24")
        add_tagged(agents[1], B, vlan, f"10.78.{first}.2/24")
    await eventually(lambda: ping(agents[0], A, "10.78.1.2"), what="a VLAN of the trunk passes")
    assert ping(agents[0], A, address(B)), "untagged frames pass as before"
    assert not ping(agents[0], A, "10.78.2.2")

    fewer = Network(A, (nic(A, phydev="odt-w", trunk=TrunkPort((300, 400))),))
    assert (await clients[0].ensure(fewer)).provides(fewer)
    assert set(vlans(agents[0], f"one-{A}-0")) == {1, 300, 400}
    assert not ping(agents[0], A, "10.78.1.2")


async def test_a_trunk_that_is_taken_away_leaves_nothing(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    agent, client = agents[0], clients[0]
    for vm, tagged in ((A, (200, 300)), (B, (300, 400))):
        await client.ensure(Network(vm, (nic(vm, phydev="odt-w", trunk=TrunkPort(tagged)),)))
    index = link(agent, f"one-{A}-0")["ifindex"]
    assert set(vlans(agent, "odt-w")) == {1, 200, 300, 400}

    plain = Network(A, (nic(A, phydev="odt-w"),))
    assert (await client.ensure(plain)).provides(plain)
    assert vlans(agent, f"one-{A}-0") == {1: ["PVID", "Egress Untagged"]}
    assert set(vlans(agent, "odt-w")) == {1, 300, 400}, "what the other VM wants stays"
    assert link(agent, "odt-br0")["linkinfo"]["info_data"]["vlan_filtering"] == 1

    await client.remove(B)
    assert link(agent, "odt-br0")["linkinfo"]["info_data"]["vlan_filtering"] == 0
    assert vlans(agent, "odt-w") == {1: ["PVID", "Egress Untagged"]}
    assert link(agent, f"one-{A}-0")["ifindex"] == index
    far = Network(C, (nic(C, phydev="odt-w"),))
    assert (await clients[1].ensure(far)).provides(far)
    await eventually(lambda: ping(agent, A, address(C)), what="untagged frames pass")


async def test_the_own_vlan_of_a_trunk_goes_with_it(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    agent, client = agents[0], clients[0]
    for trunk in (TrunkPort((200,), untagged=10), None):
        wanted = Network(A, (nic(A, uplink=TEN, trunk=trunk),))
        assert (await client.ensure(wanted)).provides(wanted)
    for port in (f"one-{A}-0", "odt-w.10"):
        assert vlans(agent, port) == {1: ["PVID", "Egress Untagged"]}


async def test_inner_vlans_of_a_tagged_network(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    trunk = TrunkPort((200,), untagged=10)
    for vm, client in zip((A, B), clients, strict=True):
        wanted = Network(vm, (nic(vm, uplink=TEN, trunk=trunk),))
        assert (await client.ensure(wanted)).provides(wanted)
    assert vlans(agents[0], f"one-{A}-0") == {10: ["PVID", "Egress Untagged"], 200: []}
    assert {10, 200} <= set(vlans(agents[0], "odt-w.10"))
    add_tagged(agents[0], A, 200, "10.78.1.1/24")
    add_tagged(agents[1], B, 200, "10.78.1.2/24")
    await eventually(lambda: ping(agents[0], A, "10.78.1.2"), what="the inner VLAN passes")
    assert ping(agents[0], A, address(B))
    agents[0].run(["bridge", "vlan", "del", "vid", "200", "dev", f"one-{A}-0"])
    wanted = Network(A, (nic(A, uplink=TEN, trunk=trunk),))
    assert (await clients[0].ensure(wanted)).provides(wanted)
    assert ping(agents[0], A, "10.78.1.2")


async def test_a_bridge_of_somebody_else_is_not_made_to_filter(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    agents[0].run(["ip", "link", "add", "odt-br0", "type", "bridge"])
    wanted = Network(A, (nic(A, phydev="odt-w", trunk=TrunkPort((7,))),))
    with pytest.raises(TerminalError, match="does not filter VLANs"):
        await clients[0].ensure(wanted)
    agents[0].run(["ip", "link", "set", "odt-br0", "type", "bridge", "vlan_filtering", "1"])
    assert (await clients[0].ensure(wanted)).provides(wanted)
    await clients[0].remove(A)
    agents[0].run(["ip", "link", "del", "odt-br0"])
