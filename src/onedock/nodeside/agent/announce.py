"""Telling neighbours who has an address now: gratuitous ARP (RFC 5227 section 3), unsolicited NA (RFC 4861 7.2.6).

Without it, they and the switches in between send to where the address was until their memories run out.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence

import structlog

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.steps import AddAddress, CreateVeth, PlugIn, RaiseHostLink, RaiseNic, SetMac, Step
from onedock.reconcilers.model import Network, Nic, VmId, namespace_name

log = structlog.get_logger()

ETH_P_ARP = 0x0806
ARP_REQUEST, ARP_REPLY = 1, 2
ND_SOLICITATION, ND_ADVERTISEMENT = 135, 136
OPTION_SOURCE_MAC, OPTION_TARGET_MAC = 1, 2

_PLACING = (AddAddress, CreateVeth, PlugIn, RaiseHostLink, RaiseNic, SetMac)
_BROADCAST = b"\xff" * 6
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ETHERNET_ARP = struct.Struct("!6s6sH")
_OVERRIDE = 0x20000000
_ALL_NODES = "ff02::1"
_HOP_LIMIT = 255
"""Neighbours drop what came over a router."""


def announce(vm: VmId, nics: Sequence[Nic]) -> None:
    """Announce all addresses of these NICs, once. Blocking, in a thread that belongs to namespaces.

    A NIC that is down or gone by now is left out: its addresses are announced when it is put back.
    """
    namespaces.enter(namespace_name(vm))
    for nic in nics:
        addresses = [ipaddress.ip_interface(address).ip for address in nic.addresses]
        mac = bytes.fromhex(nic.mac.replace(":", ""))
        try:
            _announce_ipv4(nic.name, mac, [one for one in addresses if one.version == 4])
            _announce_ipv6(nic.name, mac, [one for one in addresses if one.version == 6])
        except OSError as error:
            log.warning("addresses cannot be announced", vm=vm, nic=nic.name, error=str(error))


def newly_placed(network: Network, steps: Iterable[Step]) -> tuple[Nic, ...]:
    """The NICs that neighbours may know under another MAC or behind another port, by what was done."""
    names = {step.name for step in steps if isinstance(step, _PLACING)}
    return tuple(nic for nic in network.nics if names & {nic.name, nic.host_name})


def arp(operation: int, mac: bytes, sender: bytes, target: bytes) -> bytes:
    """A broadcast ARP frame; addresses are 4 bytes."""
    known = _BROADCAST if operation == ARP_REPLY else bytes(6)
    body = _ARP.pack(1, 0x0800, 6, 4, operation, mac, sender, known, target)
    return _ETHERNET_ARP.pack(_BROADCAST, mac, ETH_P_ARP) + body


def neighbour_message(kind: int, flags: int, target: bytes, option: tuple[int, bytes] | None) -> bytes:
    """An ICMPv6 neighbour solicitation or advertisement without checksum, which the kernel fills in."""
    what = struct.pack("!BB6s", option[0], 1, option[1]) if option else b""
    return struct.pack("!BBHI16s", kind, 0, 0, flags, target) + what


def _announce_ipv4(name: str, mac: bytes, addresses: Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    if not addresses:
        return
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind((name, ETH_P_ARP))
        for address in addresses:
            # Some listen to requests only, some to answers only.
            for operation in (ARP_REQUEST, ARP_REPLY):
                raw.send(arp(operation, mac, address.packed, address.packed))


def _announce_ipv6(name: str, mac: bytes, addresses: Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    for address in addresses:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
            index = socket.if_nametoindex(name)
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            raw.bind((str(address), 0, 0, index))
            message = neighbour_message(ND_ADVERTISEMENT, _OVERRIDE, address.packed, (OPTION_TARGET_MAC, mac))
            raw.sendto(message, (_ALL_NODES, 0, 0, index))
