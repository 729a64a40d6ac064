"""What the kernel's notifications are about, as far as VMs' networks are concerned. Pure; formats of linux/rtnetlink.h.

Only what somebody sets is a notice: carrier, counters, timers, learnt routes and link-local addresses change by
themselves, and nothing has to be put back for them.
"""

import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from onedock.nodeside.agent.attributes import aligned, attributes, text
from onedock.nodeside.agent.rtnetlink.structs import ADDRESS, LINK, NEIGHBOUR, ROUTE
from onedock.nodeside.heals import Cause

LOOPBACK = 1

_HEADER = struct.Struct("=IHHII")
_QDISC = struct.Struct("=BxxxiIII")
_NFTABLES = struct.Struct("=BBH")
_U32 = struct.Struct("=I")

_IFF_UP = 0x1
_AF_INET, _AF_BRIDGE, _AF_INET6 = 2, 7, 10
_SCOPE_LINK = 253
_IFA_F_PERMANENT = 0x80
_TABLE_COMPAT, _TABLE_MAIN = 252, 254
"""RT_TABLE_COMPAT: a number above 255, such as those of the tables for sources."""
_PROTO_KERNEL, _PROTO_BOOT, _PROTO_STATIC, _PROTO_RA, _PROTO_DHCP = 2, 3, 4, 9, 16
_NFT_SUBSYSTEM, _NFT_MESSAGES, _NFT_NEWGEN = 10, 32, 15
_NFT_TABLES, _NFT_CHAINS = frozenset({0, 2}), frozenset({3, 5})

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_GROUP = 20, 26, 27
_INFO_KIND, _INFO_DATA = 1, 2
_BRIDGE_SETTINGS = frozenset({*range(1, 9), 39})
"""IFLA_BR_*: delays, ageing, spanning tree, priority and VLAN filtering. The others are timers and counters."""
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_TCA_KIND = 1
_NFTA_TABLE = 1
"""The table's name has this number in messages of tables, chains, rules, sets, elements and objects alike."""
_NFTA_TABLE_FLAGS, _NFTA_CHAIN, _NFTA_OTHERS = 2, 3, 2
"""The name of the chain, of the rule's chain, of the set or of the object."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One change. Equal notices of a link in a row mean that nothing of interest changed in between."""

    cause: Cause
    index: int = 0
    """Of the link; 0: of none."""
    name: str = ""
    """Of the link or of the table."""
    gone: bool = False
    state: tuple[object, ...] = ()
    """Of a link: everything that can be set on it and that VMs depend on; of a table: its flags, if it has some; of
    what a router gives: the address; of an address: it, and the length of its prefix."""
    part: str = ""
    """Of the table: the chain, set or object; empty: the table itself."""
    group: int = 0
    """Of a link: the number by which its maker knows it."""
    loose: bool = False
    """Of a link: it is in no bridge."""


def parse(messages: bytes) -> Iterator[Notice]:
    """The notices in one datagram of a netlink socket, equal ones in a row once; other messages are left out."""
    offset, before = 0, None
    while offset + _HEADER.size <= len(messages):
        length, kind, *_ = _HEADER.unpack_from(messages, offset)
        if length < _HEADER.size or offset + length > len(messages):
            return
        read = _READERS.get(kind)
        notice = read(kind in _GOING, messages[offset + _HEADER.size : offset + length]) if read else None
        if notice is not None and notice != before:
            yield notice
            before = notice
        offset += aligned(length)


def _link(gone: bool, body: bytes) -> Notice:
    family, _, index, flags, _ = LINK.unpack_from(body)
    found = attributes(body[LINK.size :])
    name, master = text(found.get(_IFLA_IFNAME)), found.get(_IFLA_MASTER)
    if family == _AF_BRIDGE:
        return Notice(Cause.PORT, index, name, gone, (master, found.get(_IFLA_AF_SPEC)))
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    kind, data, address = text(info.get(_INFO_KIND)), info.get(_INFO_DATA, b""), found.get(_IFLA_ADDRESS)
    settings: object = data
    if kind == "bridge":
        settings = tuple(sorted(one for one in attributes(data).items() if one[0] in _BRIDGE_SETTINGS))
        address = None  # the lowest of its ports', which come and go
    group = int.from_bytes(found.get(_IFLA_GROUP, b""), sys.byteorder)
    state = (name, flags & _IFF_UP, found.get(_IFLA_MTU), master, address, found.get(_IFLA_IFALIAS), settings)
    return Notice(Cause.LINK, index, name, gone, state, group=group, loose=master is None)


def _address(gone: bool, body: bytes) -> Notice | None:
    family, length, flags, scope, index = ADDRESS.unpack_from(body)
    found = attributes(body[ADDRESS.size :])
    if wide := found.get(_IFA_FLAGS):
        (flags,) = _U32.unpack(wide)
    passing = not flags & _IFA_F_PERMANENT
    # A leased IPv4 address comes and is prolonged by our own doing only: it can only be missed.
    by_itself = scope == _SCOPE_LINK if family == _AF_INET6 else passing and not gone
    if by_itself or index == LOOPBACK:
        return None
    if passing and family == _AF_INET6:
        return Notice(Cause.ADVERTISED, index, gone=gone, state=(found.get(_IFA_ADDRESS),))
    return Notice(Cause.ADDRESS, index, gone=gone, state=(found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS), length))


def _route(gone: bool, body: bytes) -> Notice | None:
    _, length, _, _, table, protocol, _, _, _ = ROUTE.unpack_from(body)
    if table == _TABLE_COMPAT:
        return Notice(Cause.ROUTE, gone=gone)
    if table == _TABLE_MAIN and protocol == _PROTO_RA and length == 0:
        return Notice(Cause.ADVERTISED, gone=gone)
    # The kernel's own come with addresses, a lease's with it: they can only be missed.
    of_interest = protocol in {_PROTO_BOOT, _PROTO_STATIC} or (gone and protocol in {_PROTO_KERNEL, _PROTO_DHCP})
    return Notice(Cause.ROUTE, gone=gone) if table == _TABLE_MAIN and of_interest else None


def _rule(gone: bool, _: bytes) -> Notice:
    return Notice(Cause.ROUTE, gone=gone)


def _forwarding(gone: bool, body: bytes) -> Notice:
    _, index, *_ = NEIGHBOUR.unpack_from(body)
    return Notice(Cause.FORWARDING, index, gone=gone)


def _qdisc(gone: bool, body: bytes) -> Notice | None:
    _, index, *_ = _QDISC.unpack_from(body)
    kind = text(attributes(body[_QDISC.size :]).get(_TCA_KIND))
    return None if index == LOOPBACK or kind == "noqueue" else Notice(Cause.QDISC, index, gone=gone)


def _filter(number: int, gone: bool, body: bytes) -> Notice:
    found = attributes(body[_NFTABLES.size :])
    name = text(found.get(_NFTA_TABLE))
    if number in _NFT_TABLES:
        flags = found.get(_NFTA_TABLE_FLAGS, b"")
        return Notice(Cause.FILTER, name=name, gone=gone, state=(flags,) if any(flags) else ())
    part = found.get(_NFTA_CHAIN if number in _NFT_CHAINS else _NFTA_OTHERS)
    return Notice(Cause.FILTER, name=name, part=text(part), gone=gone)


_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE = 16, 17, 20, 21, 24, 25
_DELNEIGH, _NEWRULE, _DELRULE, _NEWQDISC, _DELQDISC = 29, 32, 33, 36, 37
_GOING = frozenset({_DELLINK, _DELADDR, _DELROUTE, _DELNEIGH, _DELRULE, _DELQDISC})
_READERS: dict[int, Callable[[bool, bytes], Notice | None]] = {
    _NEWLINK: _link,
    _DELLINK: _link,
    _NEWADDR: _address,
    _DELADDR: _address,
    _NEWROUTE: _route,
    _DELROUTE: _route,
    _DELNEIGH: _forwarding,
    _NEWRULE: _rule,
    _DELRULE: _rule,
    _NEWQDISC: _qdisc,
    _DELQDISC: _qdisc,
    **{
        _NFT_SUBSYSTEM << 8 | number: partial(_filter, number)
        for number in range(_NFT_MESSAGES)
        if number != _NFT_NEWGEN
    },
}
