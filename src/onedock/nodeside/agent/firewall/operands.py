"""What a rule can compare or look up: where the kernel finds it, and how its values are written for the kernel.

Numbers are those of linux/netfilter/nf_tables.h; the types of values only tell ``nft`` how to show them.
"""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from onedock.nodeside.agent.firewall.attributes import attribute, nested

FIRST_REGISTER = 8
"""Of 4 bytes each, one after the other."""
_NAME_BYTES = 16
_ICMPV6 = 58


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of values."""

    size: int
    """Bytes."""
    number: int
    """What nft calls it."""
    write: Callable[[Any], bytes]
    in_network_order: bool = True


@dataclass(frozen=True, slots=True)
class Operand:
    """Something about a packet."""

    kind: Kind
    load: Callable[[int], bytes]
    """The expression that loads it into a register."""
    needs: tuple[tuple[str, int | str], ...] = ()
    """Keys of ``meta`` that must have these values, or the packet has no such field."""


def expression(name: str, *values: bytes) -> bytes:
    """An element of a rule."""
    return attribute(1, name) + nested(2, *values)


def _named(names: dict[str, int], size: int) -> Callable[[Any], bytes]:
    return lambda value: names.get(value, value).to_bytes(size)


def _own_order(names: dict[str, int] | None = None) -> Callable[[Any], bytes]:
    return lambda value: struct.pack("=I", (names or {}).get(value, value))


def _integer(size: int) -> Kind:
    return Kind(size, 4, lambda value: int(str(value), 0).to_bytes(size))


def packed(value: str) -> bytes:
    """An address in network order; a tenth of the time that ``ipaddress`` takes."""
    return socket.inet_pton(socket.AF_INET6 if ":" in value else socket.AF_INET, value)


_STRING = Kind(_NAME_BYTES, 41, lambda value: value.encode().ljust(_NAME_BYTES, b"\0"))
_MARK = Kind(4, 19, _own_order(), in_network_order=False)
_IPV4 = Kind(4, 7, packed)
_IPV6 = Kind(16, 8, packed)
_MAC = Kind(6, 9, lambda value: bytes.fromhex(value.replace(":", "")))
_ETHER_TYPE = Kind(2, 10, _named({"ip": 0x0800, "arp": 0x0806, "ip6": 0x86DD}, 2))
_FAMILY = Kind(1, 2, _named({"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}, 1))
_PROTOCOL = Kind(1, 12, _named({}, 1))
_PORT = Kind(2, 13, _named({}, 2))
_ICMP_TYPE = Kind(1, 14, _named({}, 1))
_ICMPV6_TYPE = Kind(1, 29, _named({}, 1))

SET_KINDS = {
    "inet_proto": _PROTOCOL,
    "inet_service": _PORT,
    "icmp_type": _ICMP_TYPE,
    "icmpv6_type": _ICMPV6_TYPE,
    "ipv4_addr": _IPV4,
    "ipv6_addr": _IPV6,
}

_META = {
    "protocol": (1, _ETHER_TYPE),
    "mark": (3, _MARK),
    "iif": (4, Kind(4, 20, _own_order(), in_network_order=False)),
    "iifname": (6, _STRING),
    "oifname": (7, _STRING),
    "iiftype": (8, Kind(2, 21, lambda value: struct.pack("=H", value), in_network_order=False)),
    "rtclassid": (13, Kind(4, 22, _own_order(), in_network_order=False)),
    "nfproto": (15, _FAMILY),
    "l4proto": (16, _PROTOCOL),
}
_CT_STATES = {"established": 2, "related": 4}
_CT = {
    "state": (0, Kind(4, 26, _own_order(_CT_STATES), in_network_order=False)),
    "direction": (1, Kind(1, 27, _named({"original": 0, "reply": 1}, 1))),
    "mark": (3, _MARK),
}
_FIB_TYPE, _FIB_FLAGS = 3, {"saddr": 1, "daddr": 2}
_FIB_KIND = Kind(4, 38, _own_order({"local": 2, "broadcast": 3, "multicast": 5}), in_network_order=False)

_BASES = {"ll": 0, "nh": 1, "th": 2}
_ICMPV4_IN_IP, _ICMPV6_IN_IP, _UDP = ("l4proto", 1), ("l4proto", _ICMPV6), ("l4proto", 17)
# Base and offset in bytes, and what the packet must be besides its network protocol, which the first word tells.
_FIELDS: dict[tuple[str, str], tuple[str, int, Kind, tuple[tuple[str, int | str], ...]]] = {
    ("ether", "saddr"): ("ll", 6, _MAC, (("iiftype", 1),)),
    ("arp", "saddr ether"): ("nh", 8, _MAC, ()),
    ("arp", "saddr ip"): ("nh", 14, _IPV4, ()),
    ("arp", "daddr ip"): ("nh", 24, _IPV4, ()),
    ("ip", "saddr"): ("nh", 12, _IPV4, ()),
    ("ip", "daddr"): ("nh", 16, _IPV4, ()),
    ("ip6", "length"): ("nh", 4, _integer(2), ()),
    ("ip6", "nexthdr"): ("nh", 6, _PROTOCOL, ()),
    ("ip6", "saddr"): ("nh", 8, _IPV6, ()),
    ("ip6", "daddr"): ("nh", 24, _IPV6, ()),
    ("icmp", "type"): ("th", 0, _ICMP_TYPE, (_ICMPV4_IN_IP,)),
    ("icmpv6", "type"): ("th", 0, _ICMPV6_TYPE, (_ICMPV6_IN_IP,)),
    ("udp", "sport"): ("th", 0, _PORT, (_UDP,)),
    ("udp", "dport"): ("th", 2, _PORT, (_UDP,)),
    ("th", "dport"): ("th", 2, _PORT, ()),
}
_EXTENSIONS = {("frag", "nexthdr"): (44, 0, _PROTOCOL)}
"""Type of the header, offset in bytes, what is there."""
_NETWORKS = {"arp": "arp", "ip": "ip", "icmp": "ip", "ip6": "ip6", "icmpv6": "ip6"}
_FAMILIES = {"ip": "ipv4", "ip6": "ipv6"}


def operand(said: dict[str, Any], family: str) -> Operand:
    """What an expression of libnftables-json(5) means in a table of this family. KeyError: it is not known here."""
    ((what, values),) = said.items()
    match what:
        case "meta":
            return meta(values["key"])
        case "ct":
            key, kind = _CT[values["key"]]
            return Operand(kind, lambda to: expression("ct", attribute(2, key), attribute(1, to)))
        case "fib":
            flags = sum(_FIB_FLAGS[flag] for flag in values["flags"])
            asked = attribute(2, _FIB_TYPE) + attribute(3, flags)
            return Operand(_FIB_KIND, lambda to: expression("fib", attribute(1, to), asked))
        case "exthdr":
            return _exthdr(values["name"], values["field"])
        case "payload" if "base" in values:
            return _payload(values["base"], values["offset"] // 8, _integer(values["len"] // 8), ())
        case "payload":
            return _field(values["protocol"], values["field"], family)
    raise KeyError(what)


@cache
def meta(key: str) -> Operand:
    """What the kernel knows of a packet by itself."""
    number, kind = _META[key]
    return Operand(kind, cache(lambda to: expression("meta", attribute(2, number), attribute(1, to))))


@cache
def _field(protocol: str, name: str, family: str) -> Operand:
    base, offset, kind, needs = _FIELDS[protocol, name]
    network = _NETWORKS.get(protocol)
    if network is not None and family == "netdev":
        needs = (("protocol", network), *needs)
    elif network is not None:
        needs = (("nfproto", _FAMILIES[network]), *needs)
    return _payload(base, offset, kind, needs)


@cache
def _exthdr(header: str, name: str) -> Operand:
    number, offset, kind = _EXTENSIONS[header, name]
    where = attribute(2, bytes([number])) + attribute(3, offset) + attribute(4, kind.size)
    needs = (("protocol", "ip6"),)
    return Operand(kind, cache(lambda to: expression("exthdr", attribute(1, to), where)), needs)


def _payload(base: str, offset: int, kind: Kind, needs: tuple[tuple[str, int | str], ...]) -> Operand:
    where = attribute(2, _BASES[base]) + attribute(3, offset) + attribute(4, kind.size)
    return Operand(kind, cache(lambda to: expression("payload", attribute(1, to), where)), needs)


def settable(said: dict[str, Any]) -> tuple[Kind, Callable[[int], bytes]]:
    """What can be written: its values, and the expression that writes it from a register."""
    ((what, values),) = said.items()
    number, kind = {"meta": _META, "ct": _CT}[what][values["key"]]
    source = {"meta": 3, "ct": 4}[what]
    return kind, lambda register: expression(what, attribute(2, number), attribute(source, register))
