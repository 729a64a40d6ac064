"""Frames as bytes, honest and forged ones: every field is as told, whatever a kernel would say to it."""

import ipaddress
import struct

ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
REQUEST, REPLY = 1, 2
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, REDIRECT = range(133, 138)
BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
_ICMP, _TCP, _UDP, _ICMPV6, _DESTINATION_OPTIONS = 1, 6, 17, 58, 60
_LEAST = 60
"""Bytes of an Ethernet frame without its checksum."""


def ether(target: str, source: str, kind: int, payload: bytes, *, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    """An Ethernet frame; ``tags`` are (ethertype, VLAN id), the outer one first."""
    inserted = b"".join(struct.pack("!HH", *tag) for tag in tags)
    return (_mac(target) + _mac(source) + inserted + struct.pack("!H", kind) + payload).ljust(_LEAST, b"\0")


def kind_of(address: str) -> int:
    """The ethertype of packets from or to an address."""
    return IPV6 if ":" in address else IPV4


def arp(operation: int, sender_mac: str, sender: str, target: str, *, target_mac: str = "00:00:00:00:00:00") -> bytes:
    """RFC 826, for Ethernet and IPv4."""
    start = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    return start + _mac(sender_mac) + _address(sender) + _mac(target_mac) + _address(target)


def ip(source: str, target: str, protocol: int, payload: bytes, *, fragment: tuple[int, bool] | None = None) -> bytes:
    """A packet of the family of its addresses; ``fragment`` is (offset in bytes, more follow), for IPv4."""
    if ":" in source:
        return _ipv6(source, target, protocol, payload)
    offset, more = fragment or (0, False)
    length = 20 + len(payload)
    where = offset // 8 | more << 13
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0x1234, where, 64, protocol, 0) + _address(source)
    header += _address(target)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def udp(source: str, source_port: int, target: str, target_port: int, payload: bytes = b"") -> bytes:
    """An IPv4 or IPv6 packet with a datagram."""
    datagram = struct.pack("!HHHH", source_port, target_port, 8 + len(payload), 0) + payload
    return ip(source, target, _UDP, _summed(datagram, source, target, _UDP, 6))


def tcp_syn(source: str, source_port: int, target: str, target_port: int, payload: bytes = b"") -> bytes:
    """An IPv4 or IPv6 packet that asks for a connection."""
    segment = struct.pack("!HHIIBBHHH", source_port, target_port, 1, 0, 5 << 4, 2, 64240, 0, 0) + payload
    return ip(source, target, _TCP, _summed(segment, source, target, _TCP, 16))


def icmp(source: str, target: str, kind: int, body: bytes) -> bytes:
    """An IPv4 packet with ICMP; ``body`` begins after the checksum."""
    message = struct.pack("!BBH", kind, 0, 0) + body
    return ip(source, target, _ICMP, message[:2] + struct.pack("!H", checksum(message)) + message[4:])


def icmpv6(source: str, target: str, kind: int, body: bytes, *, options: bool = False) -> bytes:
    """An IPv6 packet with ICMPv6 and hop limit 255; ``options``: behind a header of destination options."""
    message = struct.pack("!BBH", kind, 0, 0) + body
    message = _summed(message, source, target, _ICMPV6, 2)
    if options:
        return ip(source, target, _DESTINATION_OPTIONS, bytes([_ICMPV6, 0, 1, 4, 0, 0, 0, 0]) + message)
    return ip(source, target, _ICMPV6, message)


def labelled(packet: bytes, token: bytes) -> bytes:
    """An IPv6 packet with a traffic class and flow label made of a token, because neighbour discovery has no room."""
    return label(token)[2:] + packet[4:]


def label(token: bytes) -> bytes:
    """What a frame with such a packet has in it, beginning at the type of its payload."""
    return struct.pack("!HB", IPV6, 0x60 | token[0] & 15) + token[1:4]


def advertisement(target: str, mac: str | None) -> bytes:
    """Body of a neighbour advertisement: solicited, overriding, with its link-layer address (RFC 4861, 4.4)."""
    return struct.pack("!I", 0x60000000) + _address(target) + _option(2, mac)


def solicitation(target: str, mac: str | None) -> bytes:
    """Body of a neighbour solicitation (RFC 4861, 4.3)."""
    return bytes(4) + _address(target) + _option(1, mac)


def router_advertisement(prefix: str, mac: str | None) -> bytes:
    """Body of a router advertisement with one prefix for SLAAC (RFC 4861, 4.2 and 4.6.2)."""
    start = struct.pack("!BBHII", 64, 0, 1800, 0, 0)
    return start + _option(1, mac) + struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + _address(prefix)


def redirect(target: str, destination: str, mac: str | None) -> bytes:
    """Body of a redirect (RFC 4861, 4.5)."""
    return bytes(4) + _address(target) + _address(destination) + _option(2, mac)


def dhcp(operation: int, mac: str, *, kind: int, yours: str = "0.0.0.0", server: str = "0.0.0.0") -> bytes:
    """A BOOTP message with the DHCP message type ``kind`` (RFC 2131): operation 1 is a client's, 2 a server's."""
    start = struct.pack("!BBBBIHH", operation, 1, 6, 0, 0x5EED, 0, 0x8000)
    start += bytes(4) + _address(yours) + _address(server) + bytes(4) + _mac(mac).ljust(16, b"\0") + bytes(192)
    return start + bytes.fromhex("63825363") + bytes([53, 1, kind, 255])


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def link_local(mac: str) -> str:
    """RFC 4291, appendix A."""
    octets = _mac(mac)
    suffix = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + suffix))


def _ipv6(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    start = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255)
    return start + _address(source) + _address(target) + payload


def _summed(message: bytes, source: str, target: str, protocol: int, place: int) -> bytes:
    """The message with its checksum over the pseudo header put in its place."""
    pseudo = _address(source) + _address(target)
    pseudo += (
        struct.pack("!IxxxB", len(message), protocol) if ":" in source else struct.pack("!xBH", protocol, len(message))
    )
    return message[:place] + struct.pack("!H", checksum(pseudo + message) or 0xFFFF) + message[place + 2 :]


def _option(kind: int, mac: str | None) -> bytes:
    return b"" if mac is None else bytes([kind, 1]) + _mac(mac)


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _address(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
