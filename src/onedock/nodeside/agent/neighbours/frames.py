"""Frames that speak of who has an address: ARP (RFC 826, 5227) and neighbour discovery (RFC 4861). Pure."""

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

BROADCAST = b"\xff" * 6
OVERRIDE = 0x20000000
"""Flag of an advertisement: who remembers another MAC forgets it."""

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_NEIGHBOUR = struct.Struct("!BBHI16s")
_OPTION = struct.Struct("!BB6s")
_ETH_P_IPV4, _ETH_P_ARP, _ETH_P_IPV6 = 0x0800, 0x0806, 0x86DD
_ICMPV6 = 58
_REQUEST = 1


class Neighbour(IntEnum):
    """Types of ICMPv6."""

    SOLICITATION = 135
    ADVERTISEMENT = 136


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody uses an address, or is about to."""

    address: str
    mac: str


def arp(mac: bytes, sender: Address | None, target: Address) -> bytes:
    """A request to all; without a sender it asks who has ``target`` and tells nobody anything (a probe)."""
    own = sender.packed if sender else bytes(4)
    body = _ARP.pack(1, _ETH_P_IPV4, 6, 4, _REQUEST, mac, own, bytes(6), target.packed)
    return _ETHERNET.pack(BROADCAST, mac, _ETH_P_ARP) + body


def neighbour(kind: Neighbour, flags: int, target: Address, option: bytes = b"") -> bytes:
    """An ICMPv6 message with a checksum of zero, as a socket wants it that fills it in."""
    return _NEIGHBOUR.pack(kind, 0, 0, flags, target.packed) + option


def target_mac(mac: bytes) -> bytes:
    """The option of an advertisement that says where its target is."""
    return _OPTION.pack(2, 1, mac)


def claim(frame: bytes) -> Claim | None:
    """What a frame says of an address: that its sender has it, or that its sender probes it too."""
    if len(frame) < _ETHERNET.size:
        return None
    _, source, protocol = _ETHERNET.unpack_from(frame)
    body = frame[_ETHERNET.size :]
    address: Address | None = None
    if protocol == _ETH_P_ARP and len(body) >= _ARP.size:
        _, _, _, _, _, _, sender, _, target = _ARP.unpack_from(body)
        address = ipaddress.IPv4Address(sender if any(sender) else target)
    elif protocol == _ETH_P_IPV6 and len(body) >= _IPV6.size + _NEIGHBOUR.size:
        _, _, following, _, sender, _ = _IPV6.unpack_from(body)
        kind, _, _, _, target = _NEIGHBOUR.unpack_from(body, _IPV6.size)
        if following == _ICMPV6 and (
            kind == Neighbour.ADVERTISEMENT or (kind == Neighbour.SOLICITATION and not any(sender))
        ):
            address = ipaddress.IPv6Address(target)
    return Claim(str(address), source.hex(":")) if address else None
