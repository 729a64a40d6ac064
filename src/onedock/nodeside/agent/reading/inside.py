"""What the VM's namespace has."""

import ipaddress
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute

from onedock.nodeside.agent.reading.links import IFF_UP, SKIP_STATISTICS, dump, limited
from onedock.nodeside.agent.seen import (
    IPV4_SYSCTLS,
    IPV6_SYSCTLS,
    SOURCE_PRIORITY,
    SOURCE_TABLES,
    InnerLink,
    SourceRule,
)

LOOPBACK = 1
"""Index of ``lo``, the same in every namespace."""

_IFF_LOWER_UP = 0x10000
_IFA_F_PERMANENT = 0x80
_SCOPE_LINK = 253
_TABLE_COMPAT, _TABLE_MAIN = 252, 254
"""The first: a number above 255, which an attribute tells."""
_PROTO_KERNEL = 2
_STATIC = frozenset({3, 4})
"""Route protocols ``boot`` and ``static``: not learnt by router advertisements or DHCP."""
_INET6 = 10
_BITS = {False: 32, True: 128}
_ANY = {False: "0.0.0.0", True: "::"}  # noqa: S104 - the default route's destination


@dataclass(frozen=True, slots=True)
class Inside:
    """All links but the loopback, and whether that is up."""

    loopback_up: bool
    links: tuple[InnerLink, ...]
    source_rules: frozenset[SourceRule]


def read_inside(inner: IPRoute) -> Inside:
    """Three dumps, whatever the number of links; a fourth one where NICs can share a subnet, or could until now."""
    answers = dump(lambda: inner.get_links(ext_mask=SKIP_STATISTICS))
    addresses = dump(inner.get_addr)
    # The header tells without decoding the rest of the many routes of the kernel's own table.
    routes = [one for one in dump(inner.get_routes) if one["table"] in {_TABLE_MAIN, _TABLE_COMPAT}]
    several = len(answers) > 2
    links = tuple(
        _inner_link(answer, addresses, routes, several=several) for answer in answers if answer["index"] != LOOPBACK
    )
    return Inside(
        loopback_up=any(answer["index"] == LOOPBACK and answer["flags"] & IFF_UP for answer in answers),
        links=links,
        source_rules=_source_rules(inner) if several or any(link.source_routes for link in links) else frozenset(),
    )


def _inner_link(answer: Any, addresses: list[Any], routes: list[Any], *, several: bool) -> InnerLink:
    index = answer["index"]
    own_addresses = [one for one in addresses if one["index"] == index]
    by_link = [one for one in routes if one.get("oif") == index]
    own_routes = [one for one in by_link if one["table"] == _TABLE_MAIN]
    static = [one for one in own_routes if one["proto"] in _STATIC and one.get("gateway")]
    ipv6 = answer.get(("af_spec", "AF_INET6", "IFLA_INET6_CONF"))
    # Among others only, it matters how a NIC takes part in ARP.
    ipv4 = answer.get(("af_spec", "AF_INET")) if several else None
    return InnerLink(
        name=answer.get("ifname"),
        index=index,
        kind=answer.get(("linkinfo", "kind")) or "",
        mac=answer.get("address") or "",
        mtu=answer.get("mtu") or 0,
        up=bool(answer["flags"] & IFF_UP),
        carrier=bool(answer["flags"] & _IFF_LOWER_UP),
        peer=answer.get("link") or 0,
        addresses=tuple(_address(one) for one in own_addresses if _is_static(one)),
        gateways=tuple((_gateway(one), one.get("priority") or 0) for one in static if one["dst_len"] == 0),
        routes=tuple(
            (_destination(one), _gateway(one), one.get("priority") or 0) for one in static if one["dst_len"] != 0
        ),
        connected=frozenset(
            _destination(one) for one in own_routes if one["proto"] == _PROTO_KERNEL and not one.get("gateway")
        ),
        source_routes=frozenset(
            (one.get("table"), _destination(one), _gateway(one) if one.get("gateway") else "")
            for one in by_link
            if one["table"] == _TABLE_COMPAT and one.get("table") >= SOURCE_TABLES
        ),
        link_local=any(one["family"] == _INET6 and one["scope"] == _SCOPE_LINK for one in own_addresses),
        ipv6=tuple((key, ipv6[key]) for key in IPV6_SYSCTLS) if ipv6 else (),
        ipv4=tuple((key, ipv4[key]) for key in IPV4_SYSCTLS) if ipv4 else (),
        limited=limited(answer),
    )


def _source_rules(inner: IPRoute) -> frozenset[SourceRule]:
    return frozenset(
        (str(ipaddress.ip_address(one.get("src"))), one.get("table"))
        for one in dump(inner.get_rules)
        if one.get("priority") == SOURCE_PRIORITY and one["src_len"] == _BITS[one["family"] == _INET6]
    )


def _is_static(address: Any) -> bool:
    """Not link-local, and not given for a time only, by a router or a DHCP server: that comes and goes as it likes."""
    return address["scope"] != _SCOPE_LINK and bool((address.get("flags") or 0) & _IFA_F_PERMANENT)


def _address(answer: Any) -> str:
    # IFA_LOCAL is the address, IFA_ADDRESS the far end of a point-to-point link; IPv6 has only the latter.
    return str(ipaddress.ip_interface(f"{answer.get('local') or answer.get('address')}/{answer['prefixlen']}"))


def _gateway(route: Any) -> str:
    return str(ipaddress.ip_address(route.get("gateway")))


def _destination(route: Any) -> str:
    start = route.get("dst") or _ANY[route["family"] == _INET6]
    return str(ipaddress.ip_network(f"{start}/{route['dst_len']}"))
