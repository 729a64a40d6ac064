"""NICs of one VM in overlapping subnets: each speaks of its own addresses only, and for them, as its filter wants it.

By default, Linux answers ARP for any address on any NIC, so that neighbours would learn the wrong MAC, and sends
everything to a subnet by one NIC, whatever its source.
"""

from collections.abc import Iterator, Mapping, Set
from ipaddress import IPv4Interface, IPv6Interface
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
from onedock.reconcilers.nic_parts import Method

Interface = IPv4Interface | IPv6Interface
Sharing = Set[tuple[int, int]]
"""(index of the NIC, version of IP) where a subnet of the NIC overlaps one of another NIC."""

_OWN_ADDRESSES_ONLY = {"arp_ignore": 1, "arp_announce": 2}
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def sharing(wanted: Network, inners: Mapping[int, InnerLink]) -> Sharing:
    """Where the NICs of a VM overlap; ``inners`` are their VM's sides by index."""
    if len(wanted.nics) < 2:
        return frozenset()
    subnets = {
        (nic.index, interface.network) for nic in wanted.nics for interface in _interfaces(nic, inners[nic.index])
    }
    found: set[tuple[int, int]] = set()
    for (one, subnet), (other, neighbour) in combinations(subnets, 2):
        if one != other and subnet.version == neighbour.version and subnet.overlaps(neighbour):
            found.update(((one, subnet.version), (other, subnet.version)))
    return found


def plan_arp(wanted: Network, nic: Nic, inner: InnerLink, shared: Sharing) -> Iterator[Step]:
    """A NIC that shares an IPv4 subnet does not speak of other NICs' addresses by ARP.

    One that waits for a lease may be about to share one.
    """
    if (nic.index, 4) not in shared and (nic.method is not Method.DHCP or len(wanted.nics) < 2):
        return
    have = dict(inner.ipv4)
    for key, value in _OWN_ADDRESSES_ONLY.items():
        if have.get(key, value) != value:
            yield SetIpv4(nic.name, key, value)


def plan_source_routes(nic: Nic, inner: InnerLink, shared: Sharing) -> Iterator[Step]:
    """The NIC's own routing table says how its neighbours and gateways are reached by it; nothing otherwise."""
    interfaces = _interfaces(nic, inner)
    want = frozenset(_routes(nic, inner, interfaces, shared))
    for table, destination, gateway in sorted(inner.source_routes - want):
        yield RemoveSourceRoute(nic.name, table, destination, gateway)
    # Neighbours first: gateways are looked for among them.
    for table, destination, gateway in sorted(want - inner.source_routes, key=lambda one: (bool(one[2]), one)):
        onlink = bool(gateway) and not any(ip_address(gateway) in interface.network for interface in interfaces)
        yield AddSourceRoute(nic.name, table, destination, gateway, onlink)


def plan_source_rules(wanted: Network, seen: Seen, inners: Mapping[int, InnerLink], shared: Sharing) -> Iterator[Step]:
    """What has the address of a NIC that shares a subnet is routed by the table of that NIC."""
    want = {
        (str(interface.ip), _table(nic))
        for nic in wanted.nics
        for interface in _interfaces(nic, inners[nic.index])
        if (nic.index, interface.version) in shared
    }
    for rule in sorted(seen.source_rules - want):
        yield RemoveSourceRule(*rule)
    for rule in sorted(want - seen.source_rules):
        yield AddSourceRule(*rule)


def _interfaces(nic: Nic, inner: InnerLink) -> list[Interface]:
    """What it has, or is about to have: by the lease of OpenNebula, of a DHCP server, and by a router."""
    leased = (nic.leased.address,) if nic.leased is not None else ()
    advertised = inner.advertised if nic.method6 is Method.AUTO else ()
    return [ip_interface(address) for address in (*nic.addresses, *leased, *advertised)]


def _table(nic: Nic) -> int:
    return SOURCE_TABLES + nic.index


def _routes(nic: Nic, inner: InnerLink, interfaces: list[Interface], shared: Sharing) -> Iterator[SourceRoute]:
    """One per destination: neighbours before static routes, before what others say."""
    destinations: dict[str, str] = {}
    for subnet in (interface.network for interface in interfaces):
        if subnet.prefixlen != subnet.max_prefixlen:
            destinations[str(subnet)] = ""
    for route in nic.routes:
        destinations.setdefault(str(ip_network(route.destination, strict=False)), canonical_gateway(route.gateway))
    for gateway in nic.gateways:
        destinations.setdefault(_ANYWHERE[ip_address(gateway).version], canonical_gateway(gateway))
    for route in nic.leased.routes if nic.leased is not None else ():
        if not route.gateway or _can_be_gateway(route.gateway, interfaces):
            destinations.setdefault(route.destination, route.gateway)
    for gateway in inner.routers if nic.method6 is Method.AUTO else ():
        destinations.setdefault(_ANYWHERE[6], gateway)
    for destination, gateway in destinations.items():
        if (nic.index, ip_network(destination).version) in shared:
            yield _table(nic), destination, gateway


def _can_be_gateway(gateway: str, interfaces: list[Interface]) -> bool:
    """The kernel refuses the rest, and what a DHCP server says must not keep all else from being done."""
    address = ip_address(gateway)
    return not (
        address.is_loopback
        or address.is_multicast
        or address.is_reserved
        or address.packed[0] == 0
        or any(
            address in {interface.ip, interface.network.network_address, interface.network.broadcast_address}
            for interface in interfaces
        )
    )
