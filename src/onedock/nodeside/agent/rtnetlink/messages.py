"""Bodies of the messages that every NIC is made by: links, addresses, routes, rules (linux/rtnetlink.h). Pure.

What only some networks need (bridges, tunnels, VLAN filters) is said in pyroute2's words: there, the making of the
message does not count.
"""

import struct
from dataclasses import dataclass

from onedock.nodeside.agent.attributes import attribute
from onedock.nodeside.agent.parsed import ip_address, ip_network
from onedock.nodeside.agent.rtnetlink.links import (
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
)
from onedock.nodeside.agent.rtnetlink.structs import ADDRESS, LINK, ROUTE

NEW_LINK, DELETE_LINK = 16, 17
NEW_ADDRESS, DELETE_ADDRESS = 20, 21
NEW_ROUTE, DELETE_ROUTE = 24, 25
NEW_RULE, DELETE_RULE = 32, 33

_IFLA_NET_NS_FD = 28
_VETH_INFO_PEER = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_RTN_UNICAST = 1
_SCOPE_NOWHERE = 255
_FRA_SRC, _FRA_PRIORITY, _FRA_TABLE = 2, 6, 15
_FR_ACT_TO_TABLE = 1
_TABLE_UNSPECIFIED, _TABLE_MAIN = 0, 254
_INET, _INET6 = 2, 10


@dataclass(frozen=True, slots=True)
class Route:
    """What a message about a route says; ``scope`` and ``protocol`` as in linux/rtnetlink.h."""

    destination: str
    """CIDR."""
    link: int
    """Index."""
    protocol: int
    scope: int = 0
    gateway: str = ""
    metric: int | None = None
    source: str | None = None
    """The address that is preferred for what is sent there."""
    table: int = _TABLE_MAIN
    flags: int = 0


def link(
    name: str = "",
    *,
    up: bool = False,
    mac: str | None = None,
    mtu: int | None = None,
    master: int | None = None,
    alias: str | None = None,
    group: int | None = None,
) -> bytes:
    """A link by its name or group, and what it is to have or be; what is None stays as it is."""
    flag = IFF_UP if up else 0
    return LINK.pack(0, 0, 0, flag, flag) + b"".join(
        attribute(kind, value)
        for kind, value in (
            (IFLA_IFNAME, _name(name) if name else None),
            (IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")) if mac is not None else None),
            (IFLA_MTU, _u32(mtu)),
            (IFLA_MASTER, _u32(master)),
            (IFLA_IFALIAS, alias.encode() if alias is not None else None),
            (IFLA_GROUP, _u32(group)),
        )
        if value is not None
    )


def veth(outer: bytes, inner: bytes, namespace: int) -> bytes:
    """Both ends of a new veth, each a ``link``; ``namespace`` is a descriptor of where the inner end is to be."""
    peer = inner + attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace))
    kind = attribute(IFLA_INFO_KIND, _name("veth"))
    data = attribute(IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer))
    return outer + attribute(IFLA_LINKINFO, kind + data)


def address(cidr: str, index: int) -> bytes:
    """An address of a link; an IPv6 one is usable at once, without asking whether somebody has it."""
    text, _, prefix = cidr.partition("/")
    packed = ip_address(text).packed
    if len(packed) == 4:
        what = attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
        return ADDRESS.pack(_INET, int(prefix), 0, 0, index) + what
    flags = attribute(_IFA_FLAGS, struct.pack("=I", _IFA_F_NODAD))
    return ADDRESS.pack(_INET6, int(prefix), 0, 0, index) + attribute(_IFA_ADDRESS, packed) + flags


def route(wanted: Route, *, removal: bool = False) -> bytes:
    """A route; to remove one, whatever scope and type it has."""
    destination = ip_network(wanted.destination)
    small = wanted.table < 256
    kind, scope = (0, _SCOPE_NOWHERE) if removal else (_RTN_UNICAST, wanted.scope)
    head = ROUTE.pack(
        _INET if destination.version == 4 else _INET6,
        *(destination.prefixlen, 0, 0, wanted.table if small else _TABLE_UNSPECIFIED),
        *(wanted.protocol, scope, kind, wanted.flags),
    )
    return head + b"".join(
        attribute(number, value)
        for number, value in (
            (_RTA_DST, destination.network_address.packed if destination.prefixlen else None),
            (_RTA_OIF, _u32(wanted.link)),
            (_RTA_GATEWAY, ip_address(wanted.gateway).packed if wanted.gateway else None),
            (_RTA_PRIORITY, _u32(wanted.metric)),
            (_RTA_PREFSRC, ip_address(wanted.source).packed if wanted.source is not None else None),
            (_RTA_TABLE, None if small else _u32(wanted.table)),
        )
        if value is not None
    )


def source_rule(source: str, table: int, priority: int) -> bytes:
    """A rule that leads what has ``source`` to a table."""
    parsed = ip_address(source)
    family = _INET if parsed.version == 4 else _INET6
    head = ROUTE.pack(family, 0, parsed.max_prefixlen, 0, _TABLE_UNSPECIFIED, 0, 0, _FR_ACT_TO_TABLE, 0)
    what = attribute(_FRA_SRC, parsed.packed) + attribute(_FRA_PRIORITY, struct.pack("=I", priority))
    return head + what + attribute(_FRA_TABLE, struct.pack("=I", table))


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


def _u32(value: int | None) -> bytes | None:
    return None if value is None else struct.pack("=I", value)
