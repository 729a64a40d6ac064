"""Telling neighbours who has an address now: gratuitous ARP (RFC 5227 section 3), unsolicited NA (RFC 4861 7.2.6).

Without it, they and the switches in between send to where the address was until their memories run out.
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address

import structlog

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.neighbours.frames import OVERRIDE, Neighbour, arp, neighbour, target_mac
from onedock.nodeside.agent.parsed import ip_interface
from onedock.nodeside.agent.steps import AddAddress, CreateVeth, PlugIn, RaiseHostLink, RaiseNic, SetMac, Step
from onedock.reconcilers.model import Network, Nic, VmId, namespace_name

log = structlog.get_logger()

_PLACING = (AddAddress, CreateVeth, PlugIn, RaiseHostLink, RaiseNic, SetMac)
_ETH_P_ARP = 0x0806
_ALL_NODES = "ff02::1"
_HOP_LIMIT = 255
_PKTINFO = struct.Struct("=16sI")
"""struct in6_pktinfo: source, index of the link."""
_closing = ThreadPoolExecutor(1, "close")
"""Closes packet sockets: the kernel waits for an RCU grace period there, 15 ms that no start of a VM should pay."""


def announce(vm: VmId, nics: Sequence[Nic]) -> None:
    """Announce all addresses of these NICs, once. Blocking, in a thread that belongs to namespaces.

    A NIC that is down or gone by now is left out: its addresses are announced when it is put back.
    """
    namespaces.enter(namespace_name(vm))
    found = [(nic, ip_interface(address).ip) for nic in nics for address in nic.addresses]
    _announce_ipv4(vm, [(nic, address) for nic, address in found if isinstance(address, IPv4Address)])
    _announce_ipv6(vm, [(nic, address) for nic, address in found if isinstance(address, IPv6Address)])


def newly_placed(network: Network, steps: Iterable[Step]) -> tuple[Nic, ...]:
    """The NICs that neighbours may know under another MAC or behind another port, by what was done."""
    names = {step.name for step in steps if isinstance(step, _PLACING)}
    return tuple(nic for nic in network.nics if names & {nic.name, nic.host_name})


def _announce_ipv4(vm: VmId, found: Sequence[tuple[Nic, IPv4Address]]) -> None:
    if not found:
        return
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        for nic, address in found:
            with _going_on(vm, nic):
                # No answer besides: who knows the address takes either (RFC 826), and each frame goes to all ports.
                frames.sendto(arp(_mac(nic), address, address), (nic.name, _ETH_P_ARP))
    finally:
        _closing.submit(frames.close)


def _announce_ipv6(vm: VmId, found: Sequence[tuple[Nic, IPv6Address]]) -> None:
    if not found:
        return
    # Through the kernel's IPv6: frames of our own would not pass the filter of a VM with security groups.
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
        for nic, address in found:
            with _going_on(vm, nic):
                index = socket.if_nametoindex(nic.name)
                source = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO.pack(address.packed, index))
                message = neighbour(Neighbour.ADVERTISEMENT, OVERRIDE, address, target_mac(_mac(nic)))
                raw.sendmsg([message], [source], 0, (_ALL_NODES, 0, 0, index))


@contextmanager
def _going_on(vm: VmId, nic: Nic) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("address cannot be announced", vm=vm, nic=nic.name, error=str(error))


def _mac(nic: Nic) -> bytes:
    return bytes.fromhex(nic.mac.replace(":", ""))
