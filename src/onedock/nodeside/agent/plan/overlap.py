"""NICs of one VM in overlapping subnets: each speaks of its own addresses only, and for them, as its filter wants it.

By default, Linux answers ARP for any address on any NIC, so that neighbours would learn the wrong MAC, and sends
everything to a subnet by one NIC, whatever its source.
"""

from collections.abc import Iterator, Set
from itertools import combinations

from onedock.nodeside.agent.parsed import ip_address, ip_interface, ip_network
from onedock.nodeside.agent.seen import SOURCE_TABLES, InnerLink, Seen, SourceRoute, canonical_gateway
from onedock.nodeside.agent.steps import (
    AddSourceRoute,
    AddSourceRule,
    RemoveSourceRoute,
    RemoveSourceRule,
    SetIpv4,
    Step,
)
from onedock.reconcilers.model import Network, Nic

Sharing = Set[tuple[int, int]]
"""(index of the NIC, version of IP) where a subnet of the NIC overlaps one of another NIC."""

_OWN_ADDRESSES_ONLY = {"arp_ignore": 1, "arp_announce": 2}
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def sharing(wanted: Network) -> Sharing:
    """Where the NICs of a VM overlap."""
    if len(wanted.nics) < 2:
        return frozenset()
    subnets = {(nic.index, ip_interface(address).network) for nic in wanted.nics for address in nic.addresses}
    found: set[tuple[int, int]] = set()
    for (one, subnet), (other, neighbour) in combinations(subnets, 2):
        if one != other and subnet.version == neighbour.version and subnet.overlaps(neighbour):
            found.update(((one, subnet.version), (other, subnet.version)))
    return found


def plan_arp(nic: Nic, inner: InnerLink, shared: Sharing) -> Iterator[Step]:
    """A NIC that shares an IPv4 subnet does not speak of other NICs' addresses by ARP."""
    if (nic.index, 4) not in shared:
        return
    have = dict(inner.ipv4)
    for key, value in _OWN_ADDRESSES_ONLY.items():
        if have.get(key, value) != value:
            yield SetIpv4(nic.name, key, value)


def plan_source_routes(nic: Nic, inner: InnerLink, shared: Sharing) -> Iterator[Step]:
    """The NIC's own routing table says how its neighbours and gateways are reached by it; nothing otherwise."""
    want = frozenset(_routes(nic, shared))
    for table, destination, gateway in sorted(inner.source_routes - want):
        yield RemoveSourceRoute(nic.name, table, destination, gateway)
    subnets = [ip_interface(address).network for address in nic.addresses]
    # Neighbours first: gateways are looked for among them.
    for table, destination, gateway in sorted(want - inner.source_routes, key=lambda one: (bool(one[2]), one)):
        onlink = bool(gateway) and not any(ip_address(gateway) in subnet for subnet in subnets)
        yield AddSourceRoute(nic.name, table, destination, gateway, onlink)


def plan_source_rules(wanted: Network, seen: Seen, shared: Sharing) -> Iterator[Step]:
    """What has the address of a NIC that shares a subnet is routed by the table of that NIC."""
    want = {
        (str(interface.ip), _table(nic))
        for nic in wanted.nics
        for interface in map(ip_interface, nic.addresses)
        if (nic.index, interface.version) in shared
    }
    for rule in sorted(seen.source_rules - want):
        yield RemoveSourceRule(*rule)
    for rule in sorted(want - seen.source_rules):
        yield AddSourceRule(*rule)


def _table(nic: Nic) -> int:
    return SOURCE_TABLES + nic.index


def _routes(nic: Nic, shared: Sharing) -> Iterator[SourceRoute]:
    """One per destination: neighbours before static routes."""
    destinations: dict[str, str] = {}
    for subnet in (ip_interface(address).network for address in nic.addresses):
        if subnet.prefixlen != subnet.max_prefixlen:
            destinations[str(subnet)] = ""
    for route in nic.routes:
        destinations.setdefault(str(ip_network(route.destination, strict=False)), canonical_gateway(route.gateway))
    for gateway in nic.gateways:
        destinations.setdefault(_ANYWHERE[ip_address(gateway).version], canonical_gateway(gateway))
    for destination, gateway in destinations.items():
        if (nic.index, ip_network(destination).version) in shared:
            yield _table(nic), destination, gateway
