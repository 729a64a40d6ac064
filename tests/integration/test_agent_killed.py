"""The agent is killed between what it remembers and what it does: the next one leaves nothing of the earlier network.

What the agent writes before it touches the kernel is written here by its own store while it is dead: that is what
SIGKILL leaves at that moment.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.plumbing import NEEDS_ROOT, bare_node, connected, nic
from tests.support.waiting import eventually

from onedock.nodeside.agent.store import Store
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import OnedockError
from onedock.reconcilers.model import Network, VmId
from onedock.reconcilers.nic_parts import Vxlan

pytestmark = NEEDS_ROOT

A, B = VmId(280_100), VmId(280_101)
SEVEN = Vxlan("odt-p0.7", "odt-p0", 7, group="239.0.0.7")
EIGHT = replace(SEVEN, name="odt-p0.8", vni=8)


@pytest.fixture
def agent() -> Iterator[PrivateAgent]:
    """A node with physical devices odt-p0 and odt-p1."""
    with bare_node() as running:
        for name in ("odt-p0", "odt-p1"):
            running.run(["ip", "link", "add", name, "type", "veth", "peer", f"{name}x"])
            running.run(["ip", "link", "set", name, "up"])
        yield running


def masters(agent: PrivateAgent) -> dict[str, str | None]:
    """All links with the bridges that they are in, without those of the node as it was."""
    shown = {link["ifname"]: link.get("master") for link in agent.ip("link")}
    return {name: master for name, master in shown.items() if name not in {"lo", "odt-p0x", "odt-p1x"}}


async def kill_before_it_is_made(agent: PrivateAgent, *networks: Network) -> None:
    """Kill the agent right after it has remembered these networks, one after the other, and start the next one."""
    agent.kill()
    store = Store(agent.state_dir / "vms")
    for network in networks:
        store.keep_network(network)
    agent.start()


async def ask(agent: PrivateAgent, *networks: Network) -> None:
    async with AgentClient(agent.socket) as client:
        for network in networks:
            assert (await client.ensure(network)).provides(network)


async def assert_made(agent: PrivateAgent, *networks: Network) -> None:
    """They are there, nobody has asked for them again, and nothing that comes before is remembered."""
    async with AgentClient(agent.socket) as client:
        for network in networks:
            found = await client.observe(network.vm)
            assert found is not None
            assert found.provides(network)
    assert all(not kept.superseded for kept in Store(agent.state_dir / "vms"))


async def test_a_physical_device_moves(agent: PrivateAgent) -> None:
    agent.run(["ip", "link", "add", "odt-br0", "type", "bridge"])
    before, after = (Network(A, (nic(A, phydev=name),)) for name in ("odt-p0", "odt-p1"))
    neighbour = Network(B, (nic(B, phydev="odt-p0"),))
    async with connected(agent):
        await ask(agent, before, neighbour)
        await kill_before_it_is_made(agent, after)
        await assert_made(agent, after, replace(neighbour, nics=(nic(B, phydev="odt-p1"),)))
        assert masters(agent)["odt-p0"] is None, "two networks would be one otherwise"
        assert masters(agent)["odt-p1"] == "odt-br0"


async def test_the_bridge_changes(agent: PrivateAgent) -> None:
    before = Network(A, (nic(A, uplink=SEVEN),))
    after = Network(A, (nic(A, bridge="odt-br1", uplink=EIGHT),))
    async with connected(agent):
        await ask(agent, before)
        await kill_before_it_is_made(agent, after)
        await assert_made(agent, after)
        ours = {"odt-br1": None, f"one-{A}-0": "odt-br1", "odt-p0.8": "odt-br1"}
        assert masters(agent) == {"odt-p0": None, "odt-p1": None, **ours}


async def test_a_nic_goes(agent: PrivateAgent) -> None:
    after = Network(A, (nic(A),))
    before = Network(A, (nic(A), nic(A, 1, bridge="odt-br1", phydev="odt-p1", uplink=SEVEN)))
    async with connected(agent):
        await ask(agent, before)
        await kill_before_it_is_made(agent, after)
        await assert_made(agent, after)
        ours = {"odt-br0": None, f"one-{A}-0": "odt-br0"}
        assert masters(agent) == {"odt-p0": None, "odt-p1": None, **ours}


async def test_nothing_is_left_when_it_is_killed_again_and_again(agent: PrivateAgent) -> None:
    devices = (("odt-br0", "odt-p0"), ("odt-br1", "odt-p1"), ("odt-br2", None))
    networks = [Network(A, (nic(A, bridge=bridge, phydev=phydev),)) for bridge, phydev in devices]
    async with connected(agent):
        await ask(agent, networks[0])
        await kill_before_it_is_made(agent, *networks[1:])
        await assert_made(agent, networks[2])
        ours = {"odt-br2": None, f"one-{A}-0": "odt-br2"}
        assert masters(agent) == {"odt-p0": None, "odt-p1": None, **ours}


async def test_it_is_removed_before_it_is_made(agent: PrivateAgent) -> None:
    before, after = (Network(A, (nic(A, bridge=f"odt-br{number}", uplink=SEVEN),)) for number in (0, 1))
    await ask(agent, before)
    agent.kill()
    store = Store(agent.state_dir / "vms")
    store.keep_network(after)
    store.begin_removal(A)
    agent.start()
    assert masters(agent) == {"odt-p0": None, "odt-p1": None}
    assert list(Store(agent.state_dir / "vms")) == []


async def test_a_device_that_was_half_plugged_in_leaves_with_the_vm(agent: PrivateAgent) -> None:
    agent.run(["ip", "link", "add", "odt-br0", "type", "bridge"])
    before, after = (Network(A, (nic(A, phydev=name),)) for name in ("odt-p0", "odt-p1"))
    neighbour = Network(B, (nic(B, phydev="odt-p0"),))
    await ask(agent, before, neighbour)
    agent.kill()
    store = Store(agent.state_dir / "vms")
    store.keep_network(after)
    store.begin_removal(A)
    agent.run(["ip", "link", "set", "odt-p0", "nomaster"])
    agent.run(["ip", "link", "set", "odt-p1", "master", "odt-br0"])
    agent.start()
    wanted = {"odt-br0": None, f"one-{B}-0": "odt-br0", "odt-p0": "odt-br0", "odt-p1": None}
    await eventually(lambda: masters(agent) == wanted, what="the neighbour has its network, and no other")
    async with connected(agent):
        await eventually(lambda: [one.superseded for one in Store(agent.state_dir / "vms")] == [()], what="made")


async def test_a_refused_network_is_followed_by_a_good_one(agent: PrivateAgent) -> None:
    agent.run(["ip", "link", "add", "odt-br0", "type", "bridge"])
    first, refused, last = (Network(A, (nic(A, phydev=name),)) for name in ("odt-p0", "odt-none", "odt-p1"))
    async with connected(agent) as client:
        await client.ensure(first)
        with pytest.raises(OnedockError, match="odt-none is missing"):
            await client.ensure(refused)
        assert (await client.ensure(last)).provides(last)
        assert (masters(agent)["odt-p0"], masters(agent)["odt-p1"]) == (None, "odt-br0")


async def test_what_another_vm_asks_for_meanwhile_is_not_taken_away(agent: PrivateAgent) -> None:
    agent.run(["ip", "link", "add", "odt-br0", "type", "bridge"])
    first, refused = (Network(A, (nic(A, phydev=name),)) for name in ("odt-p0", "odt-none"))
    other = Network(B, (nic(B, phydev="odt-p0"),))
    async with connected(agent) as client:
        await client.ensure(first)
        with pytest.raises(OnedockError, match="odt-none is missing"):
            await client.ensure(refused)
        await client.ensure(other)
        agent.run(["ip", "link", "add", "odt-none", "type", "veth", "peer", "odt-nonex"])
        assert (await client.ensure(refused)).provides(refused)
        assert {masters(agent)[name] for name in ("odt-p0", "odt-none")} == {"odt-br0"}
        assert (await client.ensure(other)).provides(other)
        await client.remove(A)
        agent.run(["ip", "link", "del", "odt-none"])


@pytest.mark.parametrize("delay_ms", [0, 2, 5, 10, 20])
async def test_killed_at_any_moment(agent: PrivateAgent, delay_ms: int) -> None:
    before = Network(A, (nic(A, phydev="odt-p0"), nic(A, 1, bridge="odt-br1", uplink=EIGHT)))
    after = Network(A, (nic(A, bridge="odt-br2", phydev="odt-p1"),))

    async def kill(_: Any) -> None:
        await asyncio.sleep(delay_ms / 1000)  # the moment is what is tried here, nothing is waited for
        agent.kill()

    async with connected(agent):
        await ask(agent, before)
        async with AgentClient(agent.socket) as client:
            asked = asyncio.create_task(client.ensure(after))
            await kill(asked)
            await asyncio.wait({asked})
            asked.exception()
        agent.start()
        await ask(agent, after)
        ours = {"odt-br2": None, f"one-{A}-0": "odt-br2"}
        wanted = {"odt-p0": None, "odt-p1": "odt-br2", **ours}
        await eventually(lambda: masters(agent) == wanted, what="nothing else is left")
