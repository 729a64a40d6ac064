"""The way of a VM's frames on a real kernel: every hop broken for real is the one that is pointed at."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

import pytest
from pydantic import TypeAdapter
from tests.support.agent import PrivateAgent
from tests.support.leaks import assert_nothing_leaked, snapshot
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import NotFoundError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Vxlan
from onedock.reconcilers.path import Fault, Hop, NicPath, VmPath
from onedock.reconcilers.path_fault import find_broken

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

VM = VmId(250_101)
NETNS = f"one-{VM}"
BRIDGE, PHYDEV, WIRE = "odt-pa0", "odt-pa1", "odt-pa2"
HOST = f"one-{VM}-0"
NIC = Nic(
    index=0, name="eth0", host_name=HOST, mac="02:00:0a:4d:65:01", bridge=BRIDGE, phydev=PHYDEV,
    addresses=("10.6.0.10/24",), gateways=("10.6.0.1",),
)  # fmt: skip
NETWORK = Network(VM, (NIC,))
READER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pydantic import TypeAdapter
from onedock.nodeside.agent.path import ways as path
from onedock.reconcilers.model import Network
path.INTERVAL_S = 0.1
thread = ThreadPoolExecutor(1)
for line in sys.stdin.buffer:
    probe, network = line.split(b" ", 1)
    wanted = TypeAdapter(Network).validate_json(network)
    found = thread.submit(path.read, wanted, probe=probe == b"probe").result()
    sys.stdout.buffer.write(TypeAdapter(path.VmPath).dump_json(found) + b"\\n")
    sys.stdout.buffer.flush()
"""


class Node(PrivateAgent):
    """A node with somebody who reads what its agent would read: an agent would put right at once what is broken."""

    def __enter__(self) -> Self:
        super().__enter__()
        self._reader = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.netns}", sys.executable, "-c", READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        self._reader.stdin.close()
        self._reader.wait(10)
        self._reader.stdout.close()
        super().__exit__()

    async def make(self, network: Network) -> None:
        """Let the agent make a network, and nothing after that."""
        os.kill(self.pid, signal.SIGCONT)
        async with AgentClient(self.socket) as client:
            await client.ensure(network)
        os.kill(self.pid, signal.SIGSTOP)

    def look(self, network: Network = NETWORK, *, probe: bool = False) -> VmPath:
        """The ways of a VM now."""
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        line = (b"probe " if probe else b"look ") + TypeAdapter(Network).dump_json(network) + b"\n"
        self._reader.stdin.write(line)
        self._reader.stdin.flush()
        return TypeAdapter(VmPath).validate_json(self._reader.stdout.readline())


def fault_of(path: VmPath) -> Fault | None:
    return find_broken(path.nics[0])


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A node with a device and its wire."""
    before = snapshot()
    with Node() as agent:
        agent.run(["ip", "link", "add", PHYDEV, "type", "veth", "peer", "name", WIRE])
        agent.run(["ip", "link", "set", WIRE, "up"])
        agent.run(["ip", "address", "add", "10.6.0.1/24", "dev", WIRE])
        yield agent
    assert_nothing_leaked(before, snapshot())


@pytest.fixture
async def agent(node: Node) -> Node:
    await node.make(NETWORK)
    # A port forwards only once the kernel has seen to it that both ends are up.
    await eventually(lambda: fault_of(node.look()) is None, what="the way is whole")
    return node


async def test_a_whole_way_is_read_hop_by_hop(agent: Node) -> None:
    path = agent.look()
    assert fault_of(path) is None
    [nic] = path.nics
    for link in (nic.inside, nic.host, nic.bridge, nic.device):
        assert link is not None
        assert link.up
        assert link.carrier
        assert link.mtu == 1500
    assert nic.inside is not None
    assert nic.inside.mac == NIC.mac
    assert nic.addresses == ("10.6.0.10/24",)
    assert nic.gateways == ("10.6.0.1",)
    assert nic.other_ports == 0
    assert nic.joined

    agent.run(["busybox", "ping", "-c", "3", "-i", "0.1", "10.6.0.1"], netns=NETNS)

    def counts() -> NicPath | None:
        """The same at both ends, unless something was sent between the two looks."""
        counted = agent.look().nics[0]
        assert counted.inside is not None
        assert counted.host is not None
        return counted if counted.host.counters.rx_packets == counted.inside.counters.tx_packets >= 4 else None

    counted = await eventually(counts)
    assert [(one.address, one.state) for one in counted.neighbours] in (
        [("10.6.0.1", "reachable")],
        [("10.6.0.1", "delay")],
    )


def inside(*argv: str) -> tuple[str, list[str]]:
    return (NETNS, ["ip", *argv])


def outside(*argv: str) -> tuple[str, list[str]]:
    return ("", ["ip", *argv])


DAMAGES: dict[str, tuple[list[tuple[str, list[str]]], Hop, str]] = {
    "NIC down": ([inside("link", "set", "eth0", "down")], Hop.CONTAINER, "eth0 is down"),
    "MAC": ([inside("link", "set", "eth0", "address", "02:00:00:00:00:77")], Hop.CONTAINER, "has the MAC"),
    "address": ([inside("addr", "flush", "dev", "eth0")], Hop.CONTAINER, "lacks the address 10.6.0.10/24"),
    "route": ([inside("route", "del", "default")], Hop.CONTAINER, "default route by 10.6.0.1"),
    "namespace": ([("", ["ip", "netns", "del", NETNS])], Hop.CONTAINER, "has no eth0"),
    "veth": ([outside("link", "del", HOST)], Hop.CONTAINER, "has no eth0"),
    "host side down": ([outside("link", "set", HOST, "down")], Hop.HOST, f"{HOST} is down"),
    "unplugged": ([outside("link", "set", HOST, "nomaster")], Hop.HOST, f"unplugged from {BRIDGE}"),
    "impostor": (
        [outside("link", "set", HOST, "name", "odt-pa8"), outside("link", "add", HOST, "type", "veth")],
        Hop.HOST,
        "not the other end",
    ),
    "bridge down": ([outside("link", "set", BRIDGE, "down")], Hop.BRIDGE, f"{BRIDGE} is down"),
    "bridge gone": ([outside("link", "del", BRIDGE)], Hop.BRIDGE, f"{BRIDGE} is missing"),
    "bridge MTU": ([outside("link", "set", BRIDGE, "mtu", "1300")], Hop.BRIDGE, f"{BRIDGE} takes 1300 bytes"),
    "device MTU": ([outside("link", "set", PHYDEV, "mtu", "1400")], Hop.DEVICE, f"{PHYDEV} takes 1400 bytes"),
    "device down": ([outside("link", "set", PHYDEV, "down")], Hop.DEVICE, f"{PHYDEV} is down"),
    "device unplugged": ([outside("link", "set", PHYDEV, "nomaster")], Hop.DEVICE, f"{PHYDEV} is unplugged"),
    "cable": ([outside("link", "set", WIRE, "down")], Hop.DEVICE, f"{PHYDEV} has no carrier"),
    "spanning tree": (
        [
            outside("link", "set", HOST, "nomaster"),
            outside("link", "set", BRIDGE, "type", "bridge", "stp_state", "1"),
            outside("link", "set", HOST, "master", BRIDGE),
        ],
        Hop.HOST,
        "spanning tree",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_what_is_broken_is_what_is_pointed_at(agent: Node, name: str) -> None:
    commands, hop, words = DAMAGES[name]
    try:
        for netns, argv in commands:
            agent.run(argv, netns=netns or None)
        fault = fault_of(agent.look())
    finally:
        mend(agent)
    assert fault is not None
    assert fault.hop is hop
    assert words in fault.reason
    assert fault.remedy


def mend(agent: Node) -> None:
    """Undo what the agent does not: it heals its own links, not those of others."""
    for argv in (
        ["set", WIRE, "up"],
        ["set", PHYDEV, "mtu", "1500"],
        ["del", "odt-pa8"],
        ["del", HOST],
        ["del", BRIDGE],
    ):
        subprocess.run(["nsenter", f"--net=/run/netns/{agent.netns}", "ip", "link", *argv], capture_output=True)


TUNNELLED = Network(
    VM,
    (
        replace(
            NIC,
            phydev=None,
            mtu=1450,
            uplink=Vxlan("odt-pa5", PHYDEV, 77, group="239.0.0.77", ttl=16, mtu=1450),
        ),
    ),
)
TUNNEL_DAMAGES: dict[str, tuple[list[str], Hop, str]] = {
    "gone": (["del", "odt-pa5"], Hop.UPLINK, "vxlan link odt-pa5 is missing"),
    "unplugged": (["set", "odt-pa5", "nomaster"], Hop.UPLINK, "odt-pa5 is unplugged"),
    "down": (["set", "odt-pa5", "down"], Hop.UPLINK, "odt-pa5 is down"),
    "device down": (["set", PHYDEV, "down"], Hop.DEVICE, f"{PHYDEV} is down"),
    "device MTU": (["set", PHYDEV, "mtu", "1480"], Hop.DEVICE, "takes 1480 bytes, eth0 sends 1450 and 50"),
}


@pytest.mark.parametrize("name", TUNNEL_DAMAGES)
async def test_a_tunnel_is_followed_to_its_device(agent: Node, name: str) -> None:
    argv, hop, words = TUNNEL_DAMAGES[name]
    await agent.make(TUNNELLED)
    try:
        whole = agent.look(TUNNELLED)
        agent.run(["ip", "link", *argv])
        fault = fault_of(agent.look(TUNNELLED))
    finally:
        mend(agent)
    assert fault_of(whole) is None
    assert whole.nics[0].uplink_to == "VXLAN 77, group 239.0.0.77"
    assert fault is not None
    assert fault.hop is hop
    assert words in fault.reason


async def test_a_gateway_that_is_silent_is_found_when_looked_for(agent: Node) -> None:
    agent.run(["ip", "address", "del", "10.6.0.1/24", "dev", WIRE])
    try:
        assert fault_of(agent.look()) is None, "nothing is asked without being told"
        fault = fault_of(agent.look(probe=True))
    finally:
        agent.run(["ip", "address", "add", "10.6.0.1/24", "dev", WIRE])
    assert fault is not None
    assert (fault.hop, fault.reason) == (Hop.GATEWAY, "gateway 10.6.0.1 does not answer ARP")
    answered = agent.look(probe=True).nics[0].neighbours
    assert [(one.address, one.state) for one in answered] == [("10.6.0.1", "reachable")]


async def test_packets_that_a_limit_drops_are_seen(agent: Node) -> None:
    limit = ["tc", "qdisc", "replace", "dev", HOST, "root", "tbf", "rate", "8kbit", "burst", "1600", "limit", "1600"]
    agent.run(limit)
    with flood(agent):
        fault = await eventually(lambda: fault_of(agent.look()), what="packets are dropped")
    agent.run(["tc", "qdisc", "del", "dev", HOST, "root"])
    assert fault.hop is Hop.HOST
    assert "its bandwidth limit is reached" in fault.reason


@contextmanager
def flood(agent: Node) -> Iterator[None]:
    """A hundred large packets a second to the VM."""
    argv = ["busybox", "ping", "-q", "-i", "0.01", "-s", "1000", "10.6.0.10"]
    process = subprocess.Popen(["nsenter", f"--net=/run/netns/{agent.netns}", *argv], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def test_the_agent_answers_with_the_way(agent: Node) -> None:
    os.kill(agent.pid, signal.SIGCONT)
    async with AgentClient(agent.socket) as client:
        path = await client.path(VM, probe=True)
        assert fault_of(path) is None
        assert [one.state for one in path.nics[0].neighbours] == ["reachable"]
        with pytest.raises(NotFoundError, match="has no network"):
            await client.path(VmId(250_199))
