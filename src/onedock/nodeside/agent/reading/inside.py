"""What the VM's namespace has."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from onedock.nodeside.agent.attributes import Attributes, attributes, number
from onedock.nodeside.agent.parsed import spelled
from onedock.nodeside.agent.rtnetlink.links import IFF_LOWER_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_LINK, IFLA_MTU, Link
from onedock.nodeside.agent.rtnetlink.socket import GET_ADDRESS, GET_ROUTE, GET_RULE, Rtnetlink
from onedock.nodeside.agent.rtnetlink.structs import ADDRESS, ROUTE
from onedock.nodeside.agent.seen import SOURCE_PRIORITY, SOURCE_TABLES, InnerLink, SourceRule

LOOPBACK_NAME = "lo"
_LOOPBACK = 1
"""Its index, the same in every namespace."""

_IFA_F_PERMANENT = 0x80
_SCOPE_LINK = 253
_TABLE_COMPAT, _TABLE_MAIN = 252, 254
"""The first: a number above 255, which an attribute tells."""
_PROTO_KERNEL, _PROTO_RA = 2, 9
_STATIC = frozenset({3, 4})
"""Route protocols ``boot`` and ``static``: not learnt by router advertisements or DHCP."""
_INET, _INET6 = 2, 10
_BITS = {_INET: 32, _INET6: 128}
_ANY = {_INET: bytes(4), _INET6: bytes(16)}

_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_FRA_SRC, _FRA_PRIORITY, _FRA_TABLE = 2, 6, 15
_IFLA_INET_CONF, _IFLA_INET6_CONF = 1, 2
_IPV4_CONF = {"arp_ignore": 18, "arp_announce": 17}
"""Places of the sysctls in IFLA_INET_CONF (linux/ip.h, which counts from 1)."""
_IPV6_CONF = {"accept_ra": 3, "autoconf": 5, "disable_ipv6": 26}
"""Places of the sysctls in IFLA_INET6_CONF (linux/ipv6.h)."""


@dataclass(frozen=True, slots=True)
class Inside:
    """All links but the loopback, and whether that is up."""

    loopback_up: bool
    links: tuple[InnerLink, ...]
    source_rules: frozenset[SourceRule]


@dataclass(frozen=True, slots=True)
class _Address:
    index: int
    family: int
    scope: int
    permanent: bool
    cidr: str


@dataclass(frozen=True, slots=True)
class _Route:
    index: int
    destination: str
    gateway: str
    """Empty: a neighbour."""
    metric: int
    table: int
    protocol: int
    is_default: bool


def read_inside(inner: Rtnetlink) -> Inside:
    """Three dumps, whatever the number of links; a fourth one where NICs can share a subnet, or could until now."""
    found = inner.links()
    addresses = [_address(answer) for answer in inner.dump(GET_ADDRESS, ADDRESS.pack(0, 0, 0, 0, 0))]
    routes = [
        route
        for answer in inner.dump(GET_ROUTE, ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))
        if (route := _route(answer)) is not None
    ]
    several = len(found) > 2
    links = tuple(_inner_link(link, addresses, routes, several=several) for link in found if link.index != _LOOPBACK)
    return Inside(
        loopback_up=any(link.index == _LOOPBACK and link.up for link in found),
        links=links,
        source_rules=_source_rules(inner) if several or any(link.source_routes for link in links) else frozenset(),
    )


def _inner_link(link: Link, addresses: Sequence[_Address], routes: Sequence[_Route], *, several: bool) -> InnerLink:
    own = [one for one in addresses if one.index == link.index]
    by_link = [one for one in routes if one.index == link.index]
    in_main = [one for one in by_link if one.table == _TABLE_MAIN]
    static = [one for one in in_main if one.protocol in _STATIC and one.gateway]
    families = attributes(link.attributes.get(IFLA_AF_SPEC, b""))
    return InnerLink(
        name=link.name,
        index=link.index,
        kind=link.kind,
        mac=link.attributes.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=link.number(IFLA_MTU),
        up=link.up,
        carrier=bool(link.flags & IFF_LOWER_UP),
        peer=link.number(IFLA_LINK),
        # What is given for a time only, by a router or a DHCP server, comes and goes as it likes.
        addresses=tuple(one.cidr for one in own if one.scope != _SCOPE_LINK and one.permanent),
        advertised=tuple(
            one.cidr for one in own if one.family == _INET6 and one.scope != _SCOPE_LINK and not one.permanent
        ),
        routers=tuple(one.gateway for one in in_main if one.protocol == _PROTO_RA and one.is_default and one.gateway),
        gateways=tuple((one.gateway, one.metric) for one in static if one.is_default),
        routes=tuple((one.destination, one.gateway, one.metric) for one in static if not one.is_default),
        connected=frozenset(one.destination for one in in_main if one.protocol == _PROTO_KERNEL and not one.gateway),
        source_routes=frozenset(
            (one.table, one.destination, one.gateway) for one in by_link if one.table >= SOURCE_TABLES
        ),
        link_local=any(one.family == _INET6 and one.scope == _SCOPE_LINK for one in own),
        ipv6=_sysctls(families.get(_INET6), _IFLA_INET6_CONF, _IPV6_CONF),
        # Among others only, it matters how a NIC takes part in ARP.
        ipv4=_sysctls(families.get(_INET), _IFLA_INET_CONF, _IPV4_CONF) if several else (),
        limited=link.limited,
    )


def _sysctls(family: bytes | None, attribute: int, places: dict[str, int]) -> tuple[tuple[str, int], ...]:
    values = attributes(family).get(attribute, b"") if family else b""
    return tuple(
        (key, struct.unpack_from("=i", values, place * 4)[0])
        for key, place in places.items()
        if len(values) >= place * 4 + 4
    )


def _address(answer: bytes) -> _Address:
    family, length, flags, scope, index = ADDRESS.unpack_from(answer)
    found = attributes(answer, ADDRESS.size)
    # IFA_LOCAL is the address, IFA_ADDRESS the far end of a point-to-point link; IPv6 has only the latter.
    address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS) or _ANY[family]
    permanent = bool((number(found.get(_IFA_FLAGS)) or flags) & _IFA_F_PERMANENT)
    return _Address(index, family, scope, permanent, f"{spelled(address)}/{length}")


def _route(answer: bytes) -> _Route | None:
    """None: in the kernel's own table for its own addresses, of which there are many, or in none of ours."""
    family, length, _, _, table, protocol, _, _, _ = ROUTE.unpack_from(answer)
    if table not in {_TABLE_MAIN, _TABLE_COMPAT} or family not in _ANY:
        return None
    found = attributes(answer, ROUTE.size)
    gateway = found.get(_RTA_GATEWAY)
    return _Route(
        index=number(found.get(_RTA_OIF)),
        destination=f"{spelled(found.get(_RTA_DST) or _ANY[family])}/{length}",
        gateway=spelled(gateway) if gateway else "",
        metric=number(found.get(_RTA_PRIORITY)),
        table=number(found.get(_RTA_TABLE)) or table,
        protocol=protocol,
        is_default=length == 0,
    )


def _source_rules(inner: Rtnetlink) -> frozenset[SourceRule]:
    return frozenset(
        rule
        for answer in inner.dump(GET_RULE, ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))
        if (rule := _source_rule(answer)) is not None
    )


def _source_rule(answer: bytes) -> SourceRule | None:
    family, _, length, _, table, *_ = ROUTE.unpack_from(answer)
    found: Attributes = attributes(answer, ROUTE.size)
    if number(found.get(_FRA_PRIORITY)) != SOURCE_PRIORITY or length != _BITS.get(family):
        return None
    return spelled(found[_FRA_SRC]), number(found.get(_FRA_TABLE)) or table
