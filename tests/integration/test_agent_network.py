"""A real agent on a real kernel: what VMs can reach, what a broken network becomes, what is left behind."""

import asyncio
import json
import os
import re
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support import plumbing
from tests.support.agent import PrivateAgent
from tests.support.plumbing import address, ping
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import NotFoundError, TerminalError, TransientError
from onedock.reconcilers.model import ContainerId, Network, Nic, VmId

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

A, B = VmId(22010), VmId(22011)
PHYSICAL = "add odt-phy0 type veth peer odt-phy1"
"""Two devices that stand for network cards: not every kernel has dummies."""
CONTAINER = ContainerId("c0ffee" + "0" * 58)


def nic(vm: VmId, index: int = 0, **changes: Any) -> Nic:
    """One of a subnet that all share, the first with a gateway."""
    gateways = ("10.77.255.254",) if index == 0 else ()
    return plumbing.nic(vm, index, **{"addresses": (f"{address(vm, index)}/16",), "gateways": gateways, **changes})


def delete_namespace() -> None:
    subprocess.run(["ip", "netns", "del", f"one-{A}"], check=True)


def links(agent: PrivateAgent) -> dict[str, Any]:
    return {link["ifname"]: link for link in agent.ip("link")}


async def test_two_vms_reach_each_other_at_once(agent: PrivateAgent, client: AgentClient) -> None:
    wanted = Network(A, (nic(A),))
    made = await client.ensure(wanted)
    await client.ensure(Network(B, (nic(B),)))

    assert ping(agent, A, address(B))
    assert made.provides(wanted)
    assert made == await client.observe(A)
    host = links(agent)
    assert host["one-22010-0"]["ifalias"] == "onedock:22010"
    assert host["one-22010-0"]["master"] == "odt-br0"
    assert host["odt-br0"]["ifalias"] == "onedock"
    assert host["odt-br0"]["linkinfo"]["info_data"]["stp_state"] == 0
    inner = {link["ifname"]: link for link in agent.ip("addr", netns="one-22010")}
    assert "UP" in inner["lo"]["flags"]
    assert inner["eth0"]["address"] == nic(A).mac
    routes = agent.ip("route", "show", "default", netns="one-22010")
    assert [(route["gateway"], route["dev"]) for route in routes] == [("10.77.255.254", "eth0")]
    assert "one-22010" in agent.run(["ip", "netns"])


async def test_the_second_ensure_changes_nothing(agent: PrivateAgent, client: AgentClient) -> None:
    wanted = Network(A, (nic(A), nic(A, 1, mtu=1400, addresses=("10.77.1.1/16", "10.77.1.2/16", "FD00:0::1/64"))))
    first = await client.ensure(wanted)
    before = (agent.ip("link"), agent.ip("addr", netns="one-22010"), agent.ip("-6", "route", netns="one-22010"))
    assert await client.ensure(wanted) == first
    after = (agent.ip("link"), agent.ip("addr", netns="one-22010"), agent.ip("-6", "route", netns="one-22010"))
    assert _lasting(after) == _lasting(before)
    assert first.provides(wanted)


def _lasting(shown: Any) -> Any:
    """What ``ip`` shows without what settles, counts or runs down by itself."""
    if isinstance(shown, dict):
        lasting = "ifindex ifname address mtu master ifalias group addr_info local prefixlen dst gateway dev metric"
        return {key: _lasting(value) for key, value in shown.items() if key in lasting.split()}
    return [_lasting(one) for one in shown] if isinstance(shown, list | tuple) else shown


async def test_two_nics_in_one_subnet_and_ipv6(agent: PrivateAgent, client: AgentClient) -> None:
    second = nic(A, 1, addresses=("10.77.0.200/16", "2001:DB8:0::a/64"), gateways=("2001:db8::ff", "192.0.2.1"))
    wanted = Network(A, (nic(A), second))
    assert (await client.ensure(wanted)).provides(wanted)
    await client.ensure(Network(B, (nic(B, addresses=(nic(B).addresses[0], "2001:db8::b/64")),)))

    assert ping(agent, A, address(B), source="eth0")
    assert ping(agent, B, "10.77.0.200")
    assert ping(agent, B, "2001:db8::a"), "usable at once, without duplicate address detection"
    shown = agent.ip("route", "show", "default", netns="one-22010")
    assert [(one["gateway"], one["metric"], one["flags"]) for one in shown] == [
        ("10.77.255.254", 100, []),
        ("192.0.2.1", 101, ["onlink"]),
    ]


def _in_vm(*argv: str) -> Callable[[PrivateAgent], object]:
    return lambda agent: agent.run(["ip", *argv], netns="one-22010")


def _on_node(*argv: str) -> Callable[[PrivateAgent], object]:
    return lambda agent: agent.run(["ip", *argv])


@pytest.mark.parametrize(
    "damage",
    [
        _in_vm("link", "set", "eth0", "address", "02:00:00:00:00:99"),
        _in_vm("link", "set", "eth0", "down"),
        _in_vm("link", "set", "lo", "down"),
        _in_vm("link", "set", "eth1", "mtu", "1300"),
        _in_vm("addr", "flush", "dev", "eth0"),
        _in_vm("addr", "add", "10.77.9.9/16", "dev", "eth0"),
        _in_vm("addr", "del", "10.77.1.1/16", "dev", "eth1"),
        _in_vm("-6", "addr", "flush", "dev", "eth1"),
        _in_vm("route", "del", "default"),
        _in_vm("route", "add", "default", "via", "10.77.3.3", "proto", "static"),
        _in_vm("link", "del", "eth0"),
        _on_node("link", "del", "one-22010-1"),
        _on_node("link", "set", "one-22010-0", "nomaster"),
        _on_node("link", "set", "one-22010-0", "down"),
        _on_node("link", "set", "one-22010-0", "alias", ""),
        _on_node("link", "set", "odt-br0", "down"),
        _on_node("link", "del", "odt-br0"),
        lambda _: delete_namespace(),
        lambda agent: (
            agent.run(["ip", "link", "del", "one-22010-0"]),
            agent.run(["ip", "link", "del", "one-22010-1"]),
        ),
    ],
)
async def test_any_damage_is_repaired(
    agent: PrivateAgent, client: AgentClient, damage: Callable[[PrivateAgent], object]
) -> None:
    addresses = ("10.77.1.1/16", "10.77.1.2/16", "fd00::1/64")
    wanted = Network(A, (nic(A), nic(A, 1, mtu=1400, addresses=addresses, gateways=("fd00::ff",))))
    await client.ensure(wanted)
    await client.ensure(Network(B, (nic(B),)))
    with suppress(subprocess.CalledProcessError):  # healed before the second half of the damage
        damage(agent)

    repaired = await client.ensure(wanted)
    await client.ensure(Network(B, (nic(B),)))  # a removed bridge is missing there too
    assert repaired.provides(wanted)
    shown = agent.ip("addr", "show", "dev", "eth1", netns="one-22010")[0]["addr_info"]
    assert [one["local"] for one in shown if one["scope"] == "global"] == ["10.77.1.1", "10.77.1.2", "fd00::1"]
    assert ping(agent, A, address(B))


async def test_nics_come_move_and_go(agent: PrivateAgent, client: AgentClient) -> None:
    await client.ensure(Network(A, (nic(A), nic(A, 1))))
    assert (await client.ensure(Network(A, (nic(A, bridge="odt-br1"), nic(A, 2))))).provides(
        Network(A, (nic(A, bridge="odt-br1"), nic(A, 2)))
    )
    host = links(agent)
    assert set(host) == {"lo", "odt-br0", "odt-br1", "one-22010-0", "one-22010-2"}
    assert host["one-22010-0"]["master"] == "odt-br1"

    await client.ensure(Network(A, (nic(A, bridge="odt-br1"),)))
    assert set(links(agent)) == {"lo", "odt-br1", "one-22010-0"}, "a bridge of ours goes with its last port"


async def test_removal_leaves_nothing_and_spares_what_others_made(agent: PrivateAgent, client: AgentClient) -> None:
    for command in ("add odt-admin type bridge", PHYSICAL):
        agent.run(["ip", "link", *command.split()])
    before = set(links(agent))
    nics = [nic(A, number) for number in range(6)]
    nics += [nic(A, 6, bridge="odt-admin", phydev="odt-phy1"), nic(A, 7, bridge="odt-new", phydev="odt-phy0")]
    wanted = Network(A, tuple(nics))
    assert (await client.ensure(wanted)).provides(wanted)
    assert links(agent)["odt-phy0"]["master"] == "odt-new"
    await client.bind(A, CONTAINER)
    assert agent.runtime_dir is not None

    await client.remove(A)
    await client.remove(A)
    assert set(links(agent)) == before
    assert str(A) not in agent.run(["ip", "netns"])
    assert not list(agent.runtime_dir.iterdir())
    assert not list((agent.state_dir / "vms").iterdir())
    assert await client.list_vms() == ()
    assert await client.observe(A) is None


async def test_namespaces_that_others_made_are_not_listed(agent: PrivateAgent, client: AgentClient) -> None:
    """What is listed and has no VM in OpenNebula is removed as a left-over: it may be another installation's VM."""
    agent.run(["ip", "netns", "add", f"one-{B}"])
    try:
        await client.ensure(Network(A, (nic(A),)))
        assert await client.list_vms() == (A,)
        await client.remove(A)
        assert await client.list_vms() == ()
    finally:
        agent.run(["ip", "netns", "delete", f"one-{B}"])


async def test_removal_finds_links_whose_namespace_nobody_can_name(agent: PrivateAgent, client: AgentClient) -> None:
    await client.ensure(Network(A, (nic(A),)))
    with Path("/run/netns/one-22010").open():  # noqa: ASYNC230 - no file is behind it
        delete_namespace()
        assert "one-22010-0" in links(agent)
        await client.remove(A)
        assert set(links(agent)) == {"lo"}


async def test_a_killed_agent_harms_nothing_and_the_next_one_knows_all(agent: PrivateAgent) -> None:
    async with AgentClient(agent.socket) as client:
        wanted = Network(A, (nic(A),))
        made = await client.ensure(wanted)
        await client.ensure(Network(B, (nic(B),)))
        await client.bind(A, CONTAINER)
        assert agent.runtime_dir is not None
        binding = agent.runtime_dir / CONTAINER
        assert binding.read_text() == "/run/netns/one-22010"
        indices = {name: link["ifindex"] for name, link in links(agent).items()}
        argv = ["nsenter", "--net=/run/netns/one-22010", "busybox", "ping", "-i", "0.05", "-c", "1000", address(B)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as traffic:  # noqa: ASYNC220 - it starts at once
            agent.kill()
            with pytest.raises(TransientError, match="cannot be reached; is onedock-agent running"):
                await client.observe(A)
            binding.unlink()  # as after a reboot: it is on a tmpfs
            await asyncio.to_thread(agent.start)
            assert await asyncio.to_thread(agent.stop) == 0
            await asyncio.to_thread(agent.start)
            traffic.send_signal(2)
            said = traffic.communicate()[0].decode()
        sent, received = map(int, re.findall(r"(\d+) packets", said))
        assert received >= sent - 1, "the last one may be on its way"
        assert {name: link["ifindex"] for name, link in links(agent).items()} == indices
        assert binding.read_text() == "/run/netns/one-22010"
        assert await client.observe(A) == replace(made, containers=(CONTAINER,))

        agent.kill()
        delete_namespace()  # the other half of a reboot
        await asyncio.to_thread(agent.start)
        healed = await client.observe(A)
        assert healed is not None
        assert healed.provides(wanted)
        assert ping(agent, A, address(B))
        for vm in (A, B):
            await client.remove(vm)


async def test_many_vms_at_once_share_one_bridge(agent: PrivateAgent, client: AgentClient) -> None:
    vms = [VmId(22100 + number) for number in range(24)]
    made = await asyncio.gather(*(client.ensure(Network(vm, (nic(vm),))) for vm in vms))
    assert all(one.provides(Network(vm, (nic(vm),))) for one, vm in zip(made, vms, strict=True))
    assert ping(agent, vms[0], address(vms[-1]))
    await asyncio.gather(*(client.remove(vm) for vm in vms), *(client.remove(vm) for vm in vms))
    assert set(links(agent)) == {"lo"}


async def test_a_new_owner_of_an_address_is_announced(agent: PrivateAgent, client: AgentClient) -> None:
    await client.ensure(Network(A, (nic(A),)))
    await client.ensure(Network(B, (nic(B),)))

    def answers() -> bool:
        return ping(agent, A, address(B))

    assert answers()
    for mac in ("02:00:00:00:00:77", "02:00:00:00:00:78"):
        await client.remove(B)
        await client.ensure(Network(B, (nic(B, mac=mac),)))
        # It is told beside the answer; what it knew before would be good for 15 s and more.
        await eventually(answers, what="the neighbour learns the new MAC without asking")
    await client.ensure(Network(B, (nic(B, mac="02:00:00:00:00:79"),)))
    await eventually(answers, what="and that of a NIC which changed in place")


async def test_conflicts_are_told_and_change_nothing(agent: PrivateAgent, client: AgentClient) -> None:
    agent.run(["ip", "link", "add", "one-22010-0", "type", "veth", "peer", "odt-peer"])
    agent.run(["ip", "link", "add", "odt-other", "type", "bridge"])
    agent.run(["ip", "link", *PHYSICAL.split()])
    agent.run(["ip", "link", "set", "odt-phy0", "master", "odt-other"])
    for wanted, cause in (
        (nic(A), "link one-22010-0 exists on this node and is not ONEDock's"),
        (nic(A, 1, bridge="one-22010-0"), "one-22010-0 is no Linux bridge on this node but a veth link"),
        (nic(A, 1, phydev="odt-phy0"), "physical device odt-phy0 is in bridge odt-other, not odt-br0"),
        (nic(A, 1, phydev="odt-none"), "physical device odt-none is missing on this node"),
        (nic(A, 1, bridge="sixteen-letters-"), "is no name for a link"),
    ):
        with pytest.raises(TerminalError, match=cause):
            await client.ensure(Network(A, (wanted,)))
    assert set(links(agent)) == {"lo", "one-22010-0", "odt-peer", "odt-other", "odt-phy0", "odt-phy1"}
    assert await client.list_vms() == ()  # what was refused before anything was made is not remembered
    with pytest.raises(NotFoundError, match="has no network namespace"):
        await client.bind(B, CONTAINER)


async def test_hostile_input_is_refused_in_json(agent: PrivateAgent, client: AgentClient) -> None:
    good = {"vm": A, "nics": []}
    one = {"index": 0, "name": "eth0", "host_name": "one-22010-0", "mac": "02:00:00:00:00:01", "bridge": "odt-br0"}
    bodies: list[tuple[bytes, int]] = [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"vm": 22010, "nics": [' + b'"' + b"x" * 1_000_000 + b'"]}', 400),
        (json.dumps({**good, "vm": 5}).encode(), 400),
        (json.dumps({**good, "vm": "22010"}).encode(), 400),
        *(
            (json.dumps({**good, "nics": [{**one, **bad}]}).encode(), 400)
            for bad in (
                {"name": "../../../etc/passwd"},
                {"host_name": "a/../b"},
                {"bridge": "a-bridge-name-that-is-long"},
                {"bridge": "x\x00y"},
                {"bridge": "$(reboot)"},
                {"mac": "zz:00:00:00:00:01"},
                {"addresses": ["10.0.0.0.1/24"]},
                {"addresses": ["10.0.0.1/99"]},
                {"mtu": 10**30},
                {"index": 10**30},
            )
        ),
    ]
    before = set(links(agent))
    connector = aiohttp.UnixConnector(str(agent.socket))
    async with aiohttp.ClientSession(connector=connector) as session:
        for body, status in bodies:
            async with session.put(f"http://agent/vms/{A}/network", data=body) as response:
                assert response.status == status, body[:80]
                assert set(await response.json()) == {"error"}
        for method, path, status in (
            ("PUT", "/vms/22010/containers/..%2f..%2fetc%2fcron.d%2fx", 400),
            ("PUT", "/vms/22010/containers/" + "A" * 64, 400),
            ("DELETE", "/vms/-1", 400),
            ("DELETE", "/vms/99999999999", 400),
            ("DELETE", "/vms/1073741824", 400),
            ("GET", "/vms/..%2f1/network", 400),
            ("GET", "/vms/22010/network", 404),
            ("GET", "/nothing", 404),
            ("POST", "/vms", 405),
        ):
            async with session.request(method, f"http://agent{path}") as response:
                assert response.status == status, path
                assert set(await response.json()) == {"error"}
        for usage in ([[1, "x", -5]], [[A, "../" * 20, 1]], [[A, CONTAINER, 10**20]]):
            async with session.post("http://agent/usage", json=usage) as response:
                assert (response.status, await response.json()) == (200, [])
    assert set(links(agent)) == before
    assert await client.version()


async def test_the_socket_is_for_root_and_one_agent(agent: PrivateAgent) -> None:
    assert agent.socket.stat().st_mode & 0o777 == 0o660
    second = agent.rival()
    assert second.returncode == 1
    assert "another agent serves this socket" in second.stderr
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(agent.socket))


async def test_measures_of_the_node_arrive(client: AgentClient) -> None:
    facts, usage = await client.host_facts(), await client.host_usage()
    assert facts.kernel == os.uname().release
    assert 0 < usage.memory_used_bytes < facts.memory_bytes
    assert await client.vm_usage([(A, CONTAINER, os.getpid())]) == ()
