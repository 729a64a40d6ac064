"""VXLAN links on two nodes that are joined by a cable: made, shared, changed, healed and removed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.kept import KeptAgents, made_by
from tests.support.plumbing import NEEDS_ROOT, address, connected, nic, ping
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Vxlan

pytestmark = NEEDS_ROOT

A, B, C = VmId(220_100), VmId(220_101), VmId(220_102)
CABLE = ("odt-w0", "odt-w1")
ENDS = ("192.0.2.1", "192.0.2.2")
ENDS6 = ("2001:db8::1", "2001:db8::2")
MULTICAST = Vxlan("odt-w.7", "odt-w", 7, group="239.0.0.7", ttl=16)
"""To be used with the node's own end of the cable."""


@pytest.fixture
def agents(agent: PrivateAgent, kept_agents: KeptAgents) -> Iterator[tuple[PrivateAgent, PrivateAgent]]:
    with kept_agents.lent() as other:
        agent.run(["ip", "link", "add", CABLE[0], "type", "veth", "peer", CABLE[1], "netns", other.netns])
        for node, cable, end in zip((agent, other), CABLE, ENDS, strict=True):
            node.run(["ip", "link", "set", cable, "name", "odt-w"])
            node.run(["ip", "address", "add", f"{end}/24", "dev", "odt-w"])
            node.run(["ip", "address", "add", f"2001:db8::{end[-1]}/64", "dev", "odt-w", "nodad"])
            node.run(["ip", "link", "set", "odt-w", "up"])
        yield agent, other
        assert made_by(agent) == made_by(other) == [], "and when the cable goes, tunnels go with it"


@pytest.fixture
async def clients(agents: tuple[PrivateAgent, PrivateAgent]) -> AsyncIterator[tuple[AgentClient, AgentClient]]:
    async with connected(agents[0]) as one, connected(agents[1]) as other:
        yield one, other


def tunnelled(vm: VmId, uplink: Vxlan, **changes: Any) -> Nic:
    return nic(vm, uplink=uplink, **changes)


def links(agent: PrivateAgent) -> dict[str, Any]:
    return {link["ifname"]: link for link in agent.ip("link")}


def is_up(agent: PrivateAgent, name: str) -> bool:
    return "UP" in links(agent)[name]["flags"]


def remotes(agent: PrivateAgent) -> list[str]:
    shown = agent.run(["bridge", "fdb", "show", "dev", "odt-w.7"])
    return sorted(line.split()[2] for line in shown.splitlines() if line.startswith("00:00:00:00:00:00 dst"))


@pytest.mark.parametrize(
    "uplink",
    [
        MULTICAST,
        replace(MULTICAST, group=None, remotes=ENDS, ttl=None, port=4789, options=(("tos", "1"), ("udp_csum", "0"))),
        replace(MULTICAST, group=None, remotes=ENDS, tep="local_ip", learning=True),
        replace(MULTICAST, group=None, remotes=ENDS6, mtu=1430),
        replace(MULTICAST, group=None, remotes=ENDS6, tep="local_ip", mtu=1430),
    ],
)
async def test_vms_of_two_nodes_are_in_one_network(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient], uplink: Vxlan
) -> None:
    for vm, client in zip((A, B), clients, strict=True):
        wanted = Network(vm, (tunnelled(vm, uplink),))
        made = await client.ensure(wanted)
        assert made.provides(wanted)
        assert made == await client.observe(vm) == await client.ensure(wanted)

    await eventually(lambda: ping(agents[0], A, address(B)), what="the other node's VM answers")
    tunnel = links(agents[0])["odt-w.7"]
    assert tunnel["master"] == "odt-br0"
    assert tunnel["ifalias"] == "onedock"
    data = tunnel["linkinfo"]["info_data"]
    assert (data["id"], data["port"], data.get("ttl")) == (7, uplink.port, uplink.ttl or 0)
    local = uplink.remotes[0] if uplink.tep == "local_ip" or uplink.remotes == ENDS6 else None
    assert data.get("local", data.get("local6")) == local
    assert remotes(agents[0]) == (list(uplink.remotes[1:]) or [uplink.group or ""])
    assert agents[0].ip("link", "show", "eth0", netns=f"one-{A}")[0]["mtu"] == tunnel["mtu"]
    for client, vm in zip(clients, (A, B), strict=True):
        await client.remove(vm)
    assert set(links(agents[0])) == {"lo", "odt-w"}


async def test_an_uplink_is_shared_and_goes_with_the_last_vm(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    agent, client = agents[0], clients[0]
    await asyncio.gather(*(client.ensure(Network(vm, (tunnelled(vm, MULTICAST),))) for vm in (A, B, C)))
    await asyncio.gather(client.remove(A), client.remove(C))
    assert {"odt-w.7", "odt-br0"} <= set(links(agent))
    await client.remove(B)
    assert set(links(agent)) == {"lo", "odt-w"}

    await client.ensure(Network(A, (tunnelled(A, MULTICAST, keep_bridge=True),)))
    await client.remove(A)
    assert set(links(agent)) == {"lo", "odt-w", "odt-w.7", "odt-br0"}
    for name in ("odt-w.7", "odt-br0"):
        agent.run(["ip", "link", "del", name])


async def test_a_changed_network_changes_the_uplink_and_not_the_nic(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    agent, client = agents[0], clients[0]
    await client.ensure(Network(A, (tunnelled(A, replace(MULTICAST, mtu=1400)),)))
    before = links(agent)
    for changed in (
        replace(MULTICAST, mtu=1420),
        replace(MULTICAST, mtu=1420, port=4789),
        replace(MULTICAST, name="odt-w.8", vni=8, group="239.0.0.8", mtu=1420),
        replace(MULTICAST, name="odt-w.8", vni=8, group=None, remotes=("192.0.2.9", "192.0.2.2"), mtu=1420),
        replace(MULTICAST, name="odt-w.8", vni=8, group=None, remotes=("192.0.2.3",), mtu=1420),
    ):
        wanted = Network(A, (tunnelled(A, changed),))
        assert (await client.ensure(wanted)).provides(wanted)
        after = links(agent)
        assert set(after) == {"lo", "odt-w", "odt-br0", f"one-{A}-0", changed.name}
        assert after[f"one-{A}-0"]["ifindex"] == before[f"one-{A}-0"]["ifindex"]
        assert after[changed.name]["mtu"] == 1420
        assert after[changed.name]["linkinfo"]["info_data"]["port"] == changed.port
    shown = agent.run(["bridge", "fdb", "show", "dev", "odt-w.8"])
    assert "dst 192.0.2.3" in shown
    assert "dst 192.0.2.9" not in shown


async def test_the_other_vms_of_a_bridge_follow_its_changed_uplink(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    agent, client = agents[0], clients[0]
    eight = replace(MULTICAST, name="odt-w.8", vni=8, group="239.0.0.8")
    for vm in (A, B):
        await client.ensure(Network(vm, (tunnelled(vm, MULTICAST),)))
    changed, followed = Network(A, (tunnelled(A, eight),)), Network(B, (tunnelled(B, eight),))
    assert (await client.ensure(changed)).provides(changed)
    index = links(agent)["odt-w.8"]["ifindex"]
    for vm in (A, B):
        # Something of each NIC is damaged, so that its whole network is looked at.
        agent.run(["ip", "link", "set", f"one-{vm}-0", "down"])
        await eventually(partial(is_up, agent, f"one-{vm}-0"), what="it is healed")
    for wanted in (changed, followed):
        found = await client.observe(wanted.vm)
        assert found is not None
        assert found.provides(wanted)
        assert (await client.ensure(wanted)).provides(wanted)
    after = links(agent)
    assert "odt-w.7" not in after
    assert after["odt-w.8"]["ifindex"] == index, "it was made once"


@pytest.mark.parametrize(
    "damage",
    [
        ["ip", "link", "del", "odt-w.7"],
        ["ip", "link", "set", "odt-w.7", "down"],
        ["ip", "link", "set", "odt-w.7", "nomaster"],
        ["bridge", "fdb", "del", "00:00:00:00:00:00", "dev", "odt-w.7", "dst", ENDS[1]],
        ["bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "odt-w.7", "dst", "192.0.2.66"],
        ["ip", "link", "del", "odt-br0"],
    ],
)
async def test_damage_is_repaired(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient], damage: list[str]
) -> None:
    uplink = replace(MULTICAST, group=None, remotes=ENDS)
    wanted = Network(A, (tunnelled(A, uplink),))
    await clients[0].ensure(wanted)
    agents[0].run(damage)
    assert (await clients[0].ensure(wanted)).provides(wanted)
    assert remotes(agents[0]) == [ENDS[1]]
    assert links(agents[0])["odt-w.7"]["master"] == "odt-br0"


async def test_links_of_others_are_used_if_they_fit_and_never_removed(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    agent, client = agents[0], clients[0]
    agent.run(["ip", "link", "add", "odt-br0", "type", "bridge", "ageing_time", "12300"])
    vxlan = ["type", "vxlan", "id", "7", "dstport", "4444", "dev", "odt-w"]
    agent.run(["ip", "link", "add", "odt-w.7", "address", "02:00:00:00:00:77", *vxlan])
    wanted = Network(A, (tunnelled(A, MULTICAST, bridge_options=(("ageing_time", "1000"),)),))
    assert (await client.ensure(wanted)).provides(wanted)
    shown = links(agent)
    assert shown["odt-w.7"]["address"] == "02:00:00:00:00:77"
    assert shown["odt-w.7"]["master"] == "odt-br0"
    assert shown["odt-br0"]["linkinfo"]["info_data"]["ageing_time"] == 12300
    await client.remove(A)
    assert set(links(agent)) == {"lo", "odt-w", "odt-w.7", "odt-br0"}

    agent.run(["ip", "link", "del", "odt-w.7"])
    agent.run(["ip", "link", "add", "odt-w.7", *vxlan[:3], "8", *vxlan[4:]])
    with pytest.raises(TerminalError, match="is not ONEDock's and no vxlan with id 7"):
        await client.ensure(wanted)
    agent.run(["ip", "link", "del", "odt-w"])
    with pytest.raises(TerminalError, match="physical device odt-w is missing"):
        await client.ensure(wanted)


async def test_a_bridge_is_made_with_its_options(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    options = (("ageing_time", "1000"), ("forward_delay", "200"), ("stp_state", "1"), ("mcast_snooping", "0"))
    await clients[0].ensure(Network(A, (nic(A, bridge_options=options),)))
    data = links(agents[0])["odt-br0"]["linkinfo"]["info_data"]
    assert {name: data[name] for name, _ in options} == {name: int(value) for name, value in options}
    with pytest.raises(TerminalError, match="'priorty' is no option of a bridge"):
        await clients[0].ensure(Network(A, (nic(A, bridge_options=(("priorty", "1"),)),)))


async def test_another_physical_device_takes_the_place_of_the_earlier_one(
    agents: tuple[PrivateAgent, PrivateAgent], clients: tuple[AgentClient, AgentClient]
) -> None:
    agent, client = agents[0], clients[0]
    agent.run(["ip", "link", "add", "odt-phy0", "type", "veth", "peer", "odt-phy1"])
    for phydev, other in (("odt-phy0", "odt-phy1"), ("odt-phy1", "odt-phy0")):
        wanted = Network(A, (nic(A, phydev=phydev),))
        assert (await client.ensure(wanted)).provides(wanted)
        assert links(agent)[phydev]["master"] == "odt-br0"
        assert "master" not in links(agent)[other]
    await client.remove(A)
    assert "odt-br0" not in links(agent)
    agent.run(["ip", "link", "del", "odt-phy0"])
