"""Who can talk to whom, computed from the wanted networks alone. Pure; knows nothing of how nodes do it.

A destination is reached when a packet gets there and its answer gets back: over links and uplinks, by the subnets and
gateways of each VM, past the spoofing filters and security groups of every NIC on the way.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule, Vlan, Vxlan

ECHO_REQUEST = {4: 8, 6: 128}


@dataclass(frozen=True, slots=True)
class Placed:
    """A VM's network and the number of its node."""

    node: int
    network: Network

    @property
    def vm(self) -> VmId:
        return self.network.vm


@dataclass(frozen=True, slots=True)
class World:
    """All VMs of all nodes; nothing else is connected to the wires between these."""

    vms: tuple[Placed, ...]
    routers: frozenset[VmId] = frozenset()
    """VMs that forward packets."""

    def __repr__(self) -> str:
        """Without what is as by default: for failing examples."""
        defaults = Nic(0, "", "", "", "")
        lines = []
        for placed in self.vms:
            lines.append(f"VM {placed.vm} on node {placed.node}" + " forwards" * (placed.vm in self.routers))
            for nic in placed.network.nics:
                fields = ((name, getattr(nic, name)) for name in Nic.__slots__)
                lines.append(f"  {[f'{name}={value}' for name, value in fields if value != getattr(defaults, name)]}")
        return "\n".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(frozen=True, slots=True)
class Probe:
    """Something that one VM asks another: by TCP or UDP on a port, or by an echo request."""

    source: VmId
    source_address: str
    target: str
    protocol: Protocol
    port: int = 0

    @property
    def family(self) -> int:
        return ipaddress.ip_address(self.target).version


@dataclass(frozen=True, slots=True)
class _Packet:
    source: str
    target: str
    protocol: Protocol
    port: int


@dataclass(frozen=True, slots=True)
class _Hop:
    """Out of one NIC and into another."""

    sender: Nic
    receiver: Nic
    owner: VmId


def reached(world: World, probe: Probe) -> VmId | None:
    """The VM that gets the probe and whose answer comes back; None: nobody."""
    packet = _Packet(probe.source_address, probe.target, probe.protocol, probe.port)
    there = _walk(world, probe.source, probe.source_address, probe.target)
    if there is None or not all(_passes(hop, packet) for hop in there):
        return None
    back = _walk(world, there[-1].owner, probe.target, probe.source_address)
    if back is None or back[-1].owner != probe.source:
        return None
    # Answers belong to a flow that both sides have seen begin: rules do not stop them, filters of addresses do.
    return there[-1].owner if all(_may_send(hop.sender, probe.target) for hop in back) else None


def allows(rules: Iterable[SecurityRule] | None, direction: Direction, packet: _Packet) -> bool:
    """Whether the first packet of a flow passes the security groups of a NIC."""
    return rules is None or any(rule.direction is direction and _matches(rule, packet) for rule in rules)


def sources(world: World, vm: VmId, target: str) -> str | None:
    """An address that the VM would send from to this target; None: it has no route, or no address of the family."""
    network = _placed(world, vm).network
    if (route := _route(network, target)) is None:
        return None
    nic, via = route
    own = [one for one in map(ipaddress.ip_interface, nic.addresses) if one.version == _version(target)]
    near = [one for one in own if ipaddress.ip_address(via) in one.network]
    return str((near or own)[0].ip) if own else None


def _passes(hop: _Hop, packet: _Packet) -> bool:
    return (
        _may_send(hop.sender, packet.source)
        and allows(hop.sender.rules, Direction.OUTBOUND, packet)
        and allows(hop.receiver.rules, Direction.INBOUND, packet)
    )


def _may_send(nic: Nic, source: str) -> bool:
    return not nic.spoofing.ip or source in _addresses([nic]) or source in nic.spoofing.addresses


def _matches(rule: SecurityRule, packet: _Packet) -> bool:
    other = packet.source if rule.direction is Direction.INBOUND else packet.target
    if rule.protocol is not Protocol.ALL and rule.protocol is not packet.protocol:
        return False
    if rule.ports and not any(first <= packet.port <= last for first, last in rule.ports):
        return False
    if rule.icmp_type is not None and rule.icmp_type != ECHO_REQUEST[_version(packet.target)]:
        return False
    return not rule.peers or any(_within(other, first, last) for first, last in rule.peers)


def _within(address: str, first: str, last: str) -> bool:
    if _version(address) != _version(first):
        return False
    return int(ipaddress.ip_address(first)) <= int(ipaddress.ip_address(address)) <= int(ipaddress.ip_address(last))


def _walk(world: World, vm: VmId, source: str, target: str) -> tuple[_Hop, ...] | None:
    """The way of a packet, whatever filters say."""
    hops: list[_Hop] = []
    here = vm
    while len(hops) < len(world.vms):
        placed = _placed(world, here)
        route = _route(placed.network, target)
        if route is None:
            return None
        nic, via = route
        found = _owner(world, placed, nic, via)
        if found is None:
            return None
        hops.append(_Hop(nic, *found))
        here = found[1]
        if target in _addresses(_placed(world, here).network.nics):  # on whichever NIC
            return tuple(hops)
        if here not in world.routers:
            return None
    return None


def _route(network: Network, target: str) -> tuple[Nic, str] | None:
    """(NIC, next hop): the longest prefix, then the lowest metric."""
    candidates: list[tuple[int, int, Nic, str]] = []
    address = ipaddress.ip_address(target)
    for nic in network.nics:
        for own in map(ipaddress.ip_interface, nic.addresses):
            if address in own.network:
                candidates.append((-own.network.prefixlen, 0, nic, target))
        configured = nic.metric if address.version == 4 else nic.metric6
        metric = 100 + nic.index if configured is None else configured
        for route in nic.routes:
            if address in (destination := ipaddress.ip_network(route.destination)):
                candidates.append((-destination.prefixlen, metric, nic, route.gateway))
        candidates += [(0, metric, nic, gateway) for gateway in nic.gateways if _version(gateway) == address.version]
    if not candidates:
        return None
    _, _, nic, via = min(candidates, key=lambda one: one[:2])
    return nic, via


def _owner(world: World, sender: Placed, nic: Nic, address: str) -> tuple[Nic, VmId] | None:
    """Who answers for an address in the NIC's segment. ValueError: more than one."""
    segment = _segment(world, (sender.node, nic.bridge))
    found = [
        (other, placed.vm)
        for placed in world.vms
        for other in placed.network.nics
        if placed.vm != sender.vm and (placed.node, other.bridge) in segment and address in _addresses([other])
    ]
    if len(found) > 1:
        raise ValueError(f"{address} has two owners in one segment: {found}")
    return found[0] if found else None


def _segment(world: World, start: tuple[int, str]) -> set[tuple[int, str]]:
    """All (node, bridge) that are one segment with the given one."""
    wires: dict[tuple[int, str], set[object]] = {}
    for placed in world.vms:
        for nic in placed.network.nics:
            wires.setdefault((placed.node, nic.bridge), set()).update(_wires(nic))
    segment = {start}
    while more := {one for one in wires if one not in segment and any(wires[one] & wires[had] for had in segment)}:
        segment |= more
    return segment


def _wires(nic: Nic) -> Iterator[object]:
    """What leads out of the NIC's bridge, equal for both ends."""
    if nic.phydev is not None:
        yield nic.phydev
    match nic.uplink:
        case Vlan(phydev=phydev, vlan_id=number):
            yield phydev, number
        case Vxlan(group=group, remotes=remotes) if group or remotes:
            yield nic.uplink.phydev, nic.uplink.vni, nic.uplink.port, group


def _addresses(nics: Iterable[Nic]) -> set[str]:
    return {str(ipaddress.ip_interface(address).ip) for nic in nics for address in nic.addresses}


def _placed(world: World, vm: VmId) -> Placed:
    return next(placed for placed in world.vms if placed.vm == vm)


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version
