"""Whatever somebody does to a VM's network is undone by the agent, unasked and soon; its own doing is no damage."""

import asyncio
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.contained import contained
from tests.support.waiting import eventually

from onedock.nodeside.heals import Cause
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import ContainerId, Network, Nic, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Direction, Protocol, Route, SecurityRule, Spoofing, Vxlan

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

A, B = VmId(240010), VmId(240011)
BRIDGE = "odt-heal0"
CONTAINER = ContainerId("ca5e" * 16)
SOON_S = 10.0
"""Bound of the tests on a loaded machine; an idle one needs some 0.2 s."""
Damage = Callable[[PrivateAgent], object]


def nic(vm: VmId, index: int = 0, **changes: Any) -> Nic:
    fields: dict[str, Any] = {
        "index": index,
        "name": f"eth{index}",
        "host_name": f"one-{vm}-{index}",
        "mac": f"02:00:0a:50:{index:02x}:{vm % 250:02x}",
        "bridge": BRIDGE,
        "addresses": (f"10.80.{index}.{vm % 250}/16", f"fd80::{index}:{vm % 250}/64"),
        "gateways": ("10.80.255.254", "fd80::ffff") if index == 0 else (),
        "mtu": 1400,
    }
    return Nic(**fields | changes)


WANTED = Network(A, (nic(A), nic(A, 1)))
NEIGHBOUR = Network(B, (nic(B),))
TARGET = nic(B).addresses[0].partition("/")[0]


@pytest.fixture
async def whole(client: AgentClient) -> AgentClient:
    assert (await client.ensure(WANTED)).provides(WANTED)
    await client.ensure(NEIGHBOUR)
    return client


def in_vm(*argv: str) -> Damage:
    return lambda agent: agent.run(["ip", *argv], netns=f"one-{A}")


def on_node(*argv: str) -> Damage:
    return lambda agent: agent.run(["ip", *argv])


def name_deleted(_: PrivateAgent) -> None:
    subprocess.run(["ip", "netns", "del", f"one-{A}"], check=True)


def name_unmounted(_: PrivateAgent) -> None:
    subprocess.run(["umount", f"/run/netns/one-{A}"], check=True)


def name_taken(_: PrivateAgent) -> None:
    subprocess.run(["ip", "netns", "del", f"one-{A}"], check=True)
    subprocess.run(["ip", "netns", "add", f"one-{A}"], check=True)


def all_unplugged(agent: PrivateAgent) -> None:
    for name in ports(agent):
        agent.run(["ip", "link", "set", name, "nomaster"])


def ports(agent: PrivateAgent) -> list[str]:
    return [link["ifname"] for link in agent.ip("link", "show", "master", BRIDGE)]


def inode() -> int:
    return Path(f"/run/netns/one-{A}").stat().st_ino


def pings(agent: PrivateAgent) -> bool:
    argv = ["busybox", "ping", "-c", "1", "-W", "1", TARGET]
    try:
        agent.run(argv, netns=f"one-{A}")
    except subprocess.CalledProcessError:
        return False
    return True


async def is_whole(client: AgentClient) -> bool:
    found = [await client.observe(wanted.vm) for wanted in (WANTED, NEIGHBOUR)]
    return all(one is not None and one.provides(want) for one, want in zip(found, (WANTED, NEIGHBOUR), strict=True))


def logged(agent: PrivateAgent, event: str) -> list[dict[str, Any]]:
    lines = [line for line in agent.log.read_text().splitlines() if event in line]
    return [json.loads(line) for line in lines]


DAMAGES: dict[str, tuple[str, Damage]] = {
    "address deleted": ("address", in_vm("addr", "del", "10.80.0.10/16", "dev", "eth0")),
    "IPv6 address deleted": ("address", in_vm("addr", "del", nic(A).addresses[1], "dev", "eth0")),
    "address added": ("address", in_vm("addr", "add", "10.80.9.9/16", "dev", "eth0")),
    "all addresses": ("address", in_vm("addr", "flush", "dev", "eth0")),
    "gateway deleted": ("route", in_vm("route", "del", "default")),
    "IPv6 gateway deleted": ("route", in_vm("-6", "route", "del", "default")),
    "second gateway": ("route", in_vm("route", "add", "default", "via", "10.80.3.3", "proto", "static")),
    "link deleted inside": ("link", in_vm("link", "del", "eth0")),
    "link deleted outside": ("link", on_node("link", "del", f"one-{A}-0")),
    "link down inside": ("link", in_vm("link", "set", "eth0", "down")),
    "link down outside": ("link", on_node("link", "set", f"one-{A}-0", "down")),
    "loopback down": ("link", in_vm("link", "set", "lo", "down")),
    "renamed outside": ("link", on_node("link", "set", f"one-{A}-0", "name", "odt-renamed")),
    "MTU inside": ("link", in_vm("link", "set", "eth0", "mtu", "1300")),
    "MTU outside": ("link", on_node("link", "set", f"one-{A}-0", "mtu", "1300")),
    "MAC": ("link", in_vm("link", "set", "eth0", "address", "02:00:00:00:00:99")),
    "unplugged": ("link", on_node("link", "set", f"one-{A}-0", "nomaster")),
    "all unplugged": ("link", all_unplugged),
    "bridge down": ("link", on_node("link", "set", BRIDGE, "down")),
    "bridge deleted": ("link", on_node("link", "del", BRIDGE)),
    "name deleted": ("namespace", name_deleted),
    "name unmounted": ("namespace", name_unmounted),
    "name taken": ("namespace", name_taken),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_it_is_undone_soon(agent: PrivateAgent, whole: AgentClient, damage: str) -> None:
    cause, make = DAMAGES[damage]
    before = inode()
    make(agent)
    began = time.monotonic()
    healed = await eventually(lambda: logged(agent, "network healed"), within=SOON_S)
    await eventually(lambda: is_whole(whole), within=SOON_S)
    assert time.monotonic() - began < SOON_S
    assert pings(agent)
    assert inode() == before, "the container lives in it"
    assert {one["cause"] for one in healed} <= {cause, "port", "address", "route"}
    [first] = [one for one in healed if one["vm"] == A][:1] or healed[:1]
    assert first["what"]


RICH = nic(
    A,
    bridge="odt-heal1",
    uplink=Vxlan("odt-heal.7", "odt-phy0", vni=7, remotes=("192.0.2.7", "192.0.2.8")),
    inbound=Bandwidth(1_000_000),
    outbound=Bandwidth(1_000_000),
    routes=(Route("198.51.100.0/24", "10.80.255.253"),),
    rules=(
        SecurityRule(0, Direction.INBOUND, Protocol.TCP, ((22, 22),)),
        SecurityRule(0, Direction.OUTBOUND, Protocol.ALL),
    ),
    spoofing=Spoofing(mac=True, ip=True),
)
RICH_DAMAGES: dict[str, tuple[str, Damage]] = {
    "limit to the VM": ("qdisc", lambda agent: agent.run(["tc", "qdisc", "del", "dev", f"one-{A}-0", "root"])),
    "limit from the VM": (
        "qdisc",
        lambda agent: agent.run(["tc", "qdisc", "del", "dev", "eth0", "root"], netns=f"one-{A}"),
    ),
    "static route": ("route", in_vm("route", "del", "198.51.100.0/24")),
    "route of the subnet": ("route", in_vm("route", "del", "10.80.0.0/16")),
    "remote of a tunnel": (
        "forwarding",
        lambda agent: agent.run(["bridge", "fdb", "del", "00:00:00:00:00:00", "dev", "odt-heal.7", "dst", "192.0.2.8"]),
    ),
    "uplink deleted": ("link", on_node("link", "del", "odt-heal.7")),
    "uplink down": ("link", on_node("link", "set", "odt-heal.7", "down")),
    "uplink unplugged": ("link", on_node("link", "set", "odt-heal.7", "nomaster")),
    "rules inside": ("filter", lambda agent: agent.run(["nft", "flush", "ruleset"], netns=f"one-{A}")),
    "rules outside": ("filter", lambda agent: agent.run(["nft", "flush", "ruleset"])),
    "chain emptied inside": (
        "filter",
        lambda agent: agent.run(["nft", "flush", "table", "inet", "onedock"], netns=f"one-{A}"),
    ),
    "bridge deleted": ("link", on_node("link", "del", "odt-heal1")),
}


@pytest.mark.parametrize("damage", RICH_DAMAGES)
async def test_all_that_a_nic_may_have_is_put_back(agent: PrivateAgent, client: AgentClient, damage: str) -> None:
    agent.run(["ip", "link", "add", "odt-phy0", "type", "veth", "peer", "odt-phy1"])
    agent.run(["ip", "link", "set", "odt-phy0", "up"])
    wanted = Network(A, (RICH,))
    made = await client.ensure(wanted)
    assert made.provides(wanted), made.missing
    with pytest.raises(AssertionError):
        await eventually(lambda: logged(agent, "network healed"), within=0.5, what="it is quiet")
    cause, make = RICH_DAMAGES[damage]
    make(agent)
    healed = await eventually(lambda: logged(agent, "network healed"), within=SOON_S)

    async def is_back() -> bool:
        found = await client.observe(A)
        assert found is not None
        assert found.provides(wanted), found.missing
        return True

    await eventually(is_back, within=SOON_S)
    assert {one["cause"] for one in healed} <= {cause, "port", "forwarding"}


async def test_what_the_agent_does_itself_is_no_damage(agent: PrivateAgent, client: AgentClient) -> None:
    before = await client.heals()
    vms = [VmId(240100 + number) for number in range(12)]
    await asyncio.gather(*(client.ensure(Network(vm, (nic(vm), nic(vm, 1)))) for vm in vms))
    await client.ensure(Network(vms[0], (nic(vms[0]), nic(vms[0], 1, addresses=()), nic(vms[0], 2))))
    await asyncio.gather(*(client.remove(vm) for vm in vms[6:]))
    with pytest.raises(AssertionError):
        await eventually(lambda: logged(agent, "network healed"), within=1.0)
    assert await client.heals() == before
    assert await client.list_vms() == tuple(vms[:6])


async def test_it_is_counted_and_told(agent: PrivateAgent, whole: AgentClient) -> None:
    before = Counter((await whole.heals()).counts)
    agent.run(["ip", "addr", "del", "10.80.0.10/16", "dev", "eth0"], netns=f"one-{A}")
    await eventually(lambda: logged(agent, "network healed"), within=SOON_S)
    told = await whole.heals(since=before.total())
    [healed] = told.recent
    assert Counter(told.counts) - before == {"address": 1}
    assert (healed.number, healed.vm, healed.cause) == (before.total() + 1, A, "address")
    assert "add address eth0 10.80.0.10/16" in healed.steps
    assert (await whole.heals(since=healed.number)).recent == ()


async def test_who_undoes_it_for_ever_is_named_and_not_raced(agent: PrivateAgent, whole: AgentClient) -> None:
    script = f"while :; do ip link set one-{A}-0 down; sleep 0.05; done"
    rival = subprocess.Popen(["nsenter", f"--net=/run/netns/{agent.netns}", "sh", "-c", script])  # noqa: ASYNC220
    try:
        complaints = await eventually(lambda: _at_least(2, logged(agent, "something on the node undoes")), within=10)
        assert complaints[0]["what"] == [f"raise host link one-{A}-0"]
        assert [one["next_look_s"] for one in complaints[:2]] == [1.0, 2.0]
        assert len(logged(agent, "network healed")) < 8
    finally:
        rival.kill()
        rival.wait()
    await eventually(lambda: is_whole(whole), within=10)


async def test_damage_while_the_agent_is_down_is_found_at_its_start(agent: PrivateAgent, whole: AgentClient) -> None:
    await asyncio.to_thread(agent.kill)
    agent.run(["ip", "addr", "flush", "dev", "eth0"], netns=f"one-{A}")
    agent.run(["ip", "link", "set", f"one-{B}-0", "nomaster"])
    await asyncio.to_thread(agent.start)
    assert await is_whole(whole)
    assert (await whole.heals()).counts == {"start": 2}
    agent.run(["ip", "link", "set", f"one-{B}-0", "down"])
    await eventually(lambda: is_whole(whole), within=SOON_S)


async def test_a_running_container_keeps_its_namespace_whoever_deleted_the_name(
    agent: PrivateAgent, whole: AgentClient
) -> None:
    """Also when nobody held the namespace but the container: its processes lead to it."""
    before = inode()
    await whole.bind(A, CONTAINER)
    async with contained(CONTAINER, f"one-{A}"):
        await asyncio.to_thread(agent.kill)
        name_taken(agent)
        await asyncio.to_thread(agent.start)
        assert inode() == before
        assert await is_whole(whole)
        assert pings(agent)
        [told] = logged(agent, "namespace of a running container has its name again")
        assert told["vm"] == A


async def test_a_removal_is_not_healed(agent: PrivateAgent, whole: AgentClient) -> None:
    agent.run(["ip", "link", "set", f"one-{A}-0", "down"])
    await whole.remove(A)
    agent.run(["ip", "link", "set", f"one-{B}-0", "down"])
    await eventually(lambda: logged(agent, "network healed"), within=SOON_S)
    assert not Path(f"/run/netns/one-{A}").exists()
    assert await whole.list_vms() == (B,)


async def test_a_bridge_of_many_comes_back_for_all(agent: PrivateAgent, client: AgentClient) -> None:
    vms = [VmId(240200 + number) for number in range(20)]
    await asyncio.gather(*(client.ensure(Network(vm, (nic(vm),))) for vm in vms))
    before = (await client.heals()).counts
    agent.run(["ip", "link", "del", BRIDGE])
    assert await eventually(lambda: _healed(client, before, len(vms)), within=SOON_S) == len(vms), "each once"
    assert len(ports(agent)) == len(vms)


async def _healed(client: AgentClient, before: Mapping[Cause, int], count: int) -> int | None:
    found = sum((await client.heals()).counts.values()) - sum(before.values())
    return found if found >= count else None


def _at_least(count: int, found: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return found if len(found) >= count else None
