"""Two nodes with wires between them, each with its own agent, and random VMs to put on them."""

import asyncio
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal, Self

from hypothesis import strategies as st
from tests.support.agent import PrivateAgent
from tests.support.oracle import Placed, Probe, World, sources
from tests.support.probing import PORTS, inside

from onedock.nodeside.agent import namespaces
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, ObservedNetwork, VmId, namespace_name
from onedock.reconcilers.nic_parts import Bandwidth, Direction, Protocol, SecurityRule, Spoofing, Vxlan

UNDERLAY = "odt-w0"
"""The wire with addresses of the nodes themselves, which tunnels go over."""
WIRES = tuple(f"odt-w{number}" for number in range(1, 4))
"""Wires that may be put into a bridge, one for each segment."""
NODE_ADDRESSES = ("192.0.2.1", "192.0.2.2")
FIRST_VM = 270_000

SegmentKind = Literal["local", "bridge", "multicast", "unicast"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A virtual network. Those with the same subnet number overlap: same addresses, other machines."""

    number: int
    kind: SegmentKind
    subnet: int
    families: tuple[int, ...] = (4, 6)

    @property
    def bridge(self) -> str:
        return f"odt-s{self.number}"

    def address(self, host: int, family: int) -> str:
        """CIDR."""
        return f"10.80.{self.subnet}.{host}/24" if family == 4 else f"fd80:8{self.subnet}::{host:x}/64"

    def uplink(self, node: int) -> Vxlan | None:
        match self.kind:
            case "multicast":
                return Vxlan(self._tunnel, UNDERLAY, 100 + self.number, group=f"239.0.80.{self.number}", mtu=1500)
            case "unicast":
                remotes = tuple(address for index, address in enumerate(NODE_ADDRESSES) if index != node)
                return Vxlan(self._tunnel, UNDERLAY, 100 + self.number, remotes=remotes, mtu=1500)
            case _:
                return None

    @property
    def _tunnel(self) -> str:
        return f"odt-x{self.number}"


def nic(vm: int, index: int, node: int, segment: Segment, host: int, *, aliases: int = 0) -> Nic:
    """A NIC in a segment, with its addresses of all families and some more of them."""
    hosts = [host, *(host + 100 + number for number in range(aliases))]
    return Nic(
        index=index,
        name=f"eth{index}",
        host_name=f"one-{vm}-{index}",
        mac=f"02:00:{vm >> 16:02x}:{vm >> 8 & 255:02x}:{vm & 255:02x}:{index:02x}",
        bridge=segment.bridge,
        addresses=tuple(segment.address(one, family) for family in segment.families for one in hosts),
        phydev=WIRES[segment.number % len(WIRES)] if segment.kind == "bridge" else None,
        uplink=segment.uplink(node),
    )


class TwoNodes:
    """``with TwoNodes() as nodes:`` starts two agents, each in a namespace, connected by wires."""

    def __init__(self, agents: tuple[PrivateAgent, PrivateAgent] | None = None) -> None:
        self.agents = agents or (PrivateAgent(), PrivateAgent())

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(stack.enter_context, self.agents))
            first, second = self.agents
            for wire in (UNDERLAY, *WIRES):
                add = ["ip", "link", "add", wire, "mtu", "1600", "netns", first.netns, "type", "veth"]
                subprocess.run([*add, "peer", "name", wire, "mtu", "1600", "netns", second.netns], check=True)
            for agent, address in zip(self.agents, NODE_ADDRESSES, strict=True):
                agent.run(["ip", "address", "add", f"{address}/24", "dev", UNDERLAY])
                agent.run(["ip", "link", "set", UNDERLAY, "up"])
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def make(self, world: World) -> list[ObservedNetwork]:
        """Have both agents make everything at once."""
        async with AgentClient(self.agents[0].socket) as first, AgentClient(self.agents[1].socket) as second:
            clients = (first, second)
            made = await asyncio.gather(*(clients[placed.node].ensure(placed.network) for placed in world.vms))
        await self.forward(world)
        return list(made)

    async def forward(self, world: World) -> None:
        """Let the routers among the VMs forward packets: something that a guest does, and no agent."""
        for vm in world.routers:
            await asyncio.to_thread(inside, namespace_name(vm), _forward)

    async def observe(self, placed: Placed) -> ObservedNetwork | None:
        """What the VM's agent sees."""
        async with AgentClient(self.agents[placed.node].socket) as client:
            return await client.observe(placed.vm)

    def logs(self) -> str:
        """The end of what both agents have logged."""
        return "\n".join(agent.story() for agent in self.agents)

    async def clear(self) -> None:
        """Remove all VMs."""
        for agent in self.agents:
            async with AgentClient(agent.socket) as client:
                await asyncio.gather(*(client.remove(vm) for vm in await client.list_vms()))


def _forward() -> None:
    namespaces.sysctl("ipv4/ip_forward", "1")
    namespaces.sysctl("ipv6/conf/all/forwarding", "1")


def crowd() -> World:
    """Six VMs in segments of all kinds: aliases, a router, overlapping subnets, groups, filters, limits."""
    bridged, tunnel, flooded = Segment(0, "bridge", 0), Segment(1, "multicast", 1), Segment(2, "unicast", 0)
    in_and_out = tuple(SecurityRule(100, direction, Protocol.ALL) for direction in Direction)
    web = (
        SecurityRule(101, Direction.INBOUND, Protocol.TCP, ports=((PORTS[0], PORTS[0]),)),
        SecurityRule(101, Direction.INBOUND, Protocol.ICMP, icmp_type=8),
        SecurityRule(101, Direction.OUTBOUND, Protocol.ALL),
    )
    own = Spoofing(mac=True, ip=True)
    limit = Bandwidth(average=100_000_000)
    a, b, c, d, e, f = range(FIRST_VM + 10, FIRST_VM + 16)
    router = tuple(replace(nic(a, index, 0, one, 1), rules=in_and_out) for index, one in enumerate((bridged, tunnel)))
    by_router = ("10.80.0.1", "fd80:80::1")
    vms = [
        Placed(0, Network(VmId(a), router)),
        Placed(0, Network(VmId(b), (replace(nic(b, 0, 0, bridged, 2, aliases=1), gateways=by_router, spoofing=own),))),
        Placed(1, Network(VmId(c), (replace(nic(c, 0, 1, bridged, 3), gateways=by_router, rules=web, spoofing=own),))),
        Placed(1, Network(VmId(d), (replace(nic(d, 0, 1, tunnel, 4), gateways=("10.80.1.1", "fd80:81::1")),))),
        Placed(0, Network(VmId(e), (nic(e, 0, 0, flooded, 2), replace(nic(e, 1, 0, tunnel, 5), rules=web)))),
        Placed(1, Network(VmId(f), (replace(nic(f, 0, 1, flooded, 3), inbound=limit, outbound=limit),))),
    ]
    return World(tuple(vms), frozenset({VmId(a)}))


def all_probes(world: World) -> tuple[Probe, ...]:
    """Every VM asks every address of every other one, in each way."""
    probes = []
    for placed in world.vms:
        targets = {
            address.partition("/")[0]
            for other in world.vms
            for one in other.network.nics
            for address in one.addresses
            if other.vm != placed.vm
        }
        own = {address.partition("/")[0] for one in placed.network.nics for address in one.addresses}
        for target in sorted(targets - own):
            source = sources(world, placed.vm, target)
            if source is None:
                continue
            echo = Protocol.ICMPV6 if ":" in target else Protocol.ICMP
            probes.append(Probe(placed.vm, source, target, echo))
            probes += [
                Probe(placed.vm, source, target, protocol, port)
                for protocol in (Protocol.TCP, Protocol.UDP)
                for port in PORTS
            ]
    return tuple(probes)


def worlds(*, kinds: Sequence[SegmentKind], rules: bool) -> st.SearchStrategy[World]:
    """Two or three segments of these kinds, three to five VMs in them; ``rules``: with security groups and filters."""
    return st.composite(_draw_world)(tuple(kinds), rules)


def _draw_world(draw: st.DrawFn, kinds: tuple[SegmentKind, ...], rules: bool) -> World:
    count = draw(st.integers(2, 3))
    families = st.sampled_from([(4, 6), (4, 6), (4,), (6,)])
    segments = [Segment(number, draw(st.sampled_from(kinds)), number, draw(families)) for number in range(count)]
    if count == 3 and draw(st.booleans()):
        segments[2] = replace(segments[2], subnet=0)  # its addresses are those of the first one
    router = draw(st.booleans())
    vms = []
    for number in range(draw(st.integers(3, 5))):
        forwards = router and number == 0
        choices: list[list[Segment]] = [segments[:2]] if forwards else [[one] for one in segments]
        if not forwards:
            choices += [[segments[0], segments[1]], [segments[1], segments[-1]]][: count - 1]
        mine, node = draw(st.sampled_from(choices)), draw(st.integers(0, 1))
        # In each segment the VMs are numbered alike, so that overlapping ones have the same addresses.
        vms.append(Placed(node, _draw_network(draw, FIRST_VM + number, node, mine, number // 2 * 2 + 1 + node, rules)))
    world = World(_without_doubles(vms), frozenset({VmId(FIRST_VM)}) if router else frozenset())
    return _with_gateways(world, segments) if router else world


def _draw_network(draw: st.DrawFn, vm: int, node: int, segments: Sequence[Segment], host: int, rules: bool) -> Network:
    nics = []
    for index, segment in enumerate(segments):
        made = nic(vm, index, node, segment, host, aliases=draw(st.integers(0, 1)))
        if rules:
            spoofing = Spoofing(mac=draw(st.booleans()), ip=draw(st.booleans()))
            made = replace(made, rules=draw(st.none() | rule_lists()), spoofing=spoofing)
        nics.append(made)
    return Network(VmId(vm), tuple(nics))


def _without_doubles(vms: Sequence[Placed]) -> tuple[Placed, ...]:
    """The VMs without those whose addresses another has already in the same segment."""
    kept: list[Placed] = []
    taken: set[tuple[str, str]] = set()
    for placed in vms:
        mine = {(one.bridge, address) for one in placed.network.nics for address in one.addresses}
        if not mine & taken:
            kept.append(placed)
            taken |= mine
    return tuple(kept)


def _with_gateways(world: World, segments: Sequence[Segment]) -> World:
    """The first VM is the gateway of all that are in one of its segments alone."""
    first = world.vms[0].network
    gateways = {one.bridge: one for one in first.nics}
    vms = [world.vms[0]]
    for placed in world.vms[1:]:
        network = placed.network
        if len(network.nics) == 1 and (gateway := gateways.get(network.nics[0].bridge)):
            addresses = [address.partition("/")[0] for address in gateway.addresses]
            per_family = {":" in address: address for address in reversed(addresses)}
            changed = replace(network.nics[0], gateways=tuple(per_family.values()))
            placed = replace(placed, network=replace(network, nics=(changed,)))
        vms.append(placed)
    return replace(world, vms=tuple(vms))


def rule_lists() -> st.SearchStrategy[tuple[SecurityRule, ...]]:
    """Up to four rules of security groups, which matter for ``all_probes``."""
    ports = st.sampled_from([(), ((PORTS[0], PORTS[0]),), ((1, PORTS[0]),), ((22, 22), (PORTS[1], 65535))])
    hosts = [(f"10.80.{subnet}.1", f"10.80.{subnet}.{last}") for subnet in range(3) for last in (1, 3, 254)]
    hosts += [(f"fd80:8{subnet}::1", f"fd80:8{subnet}::{last}") for subnet in range(3) for last in ("1", "ffff")]
    everybody: list[tuple[tuple[str, str], ...]] = [()]
    some = st.lists(st.sampled_from(hosts), min_size=1, max_size=3, unique=True).map(tuple)
    peers = st.sampled_from(everybody) | some
    common = {"group": st.integers(100, 103), "direction": st.sampled_from(Direction), "peers": peers}
    by_port = st.builds(SecurityRule, protocol=st.sampled_from([Protocol.TCP, Protocol.UDP]), ports=ports, **common)
    echo = st.builds(SecurityRule, protocol=st.just(Protocol.ICMP), icmp_type=st.sampled_from([None, 8, 0]), **common)
    echo6 = st.builds(
        SecurityRule, protocol=st.just(Protocol.ICMPV6), icmp_type=st.sampled_from([None, 128, 1]), **common
    )
    anything = st.builds(SecurityRule, protocol=st.just(Protocol.ALL), **common)
    return st.lists(by_port | echo | echo6 | anything, min_size=1, max_size=5).map(tuple)
