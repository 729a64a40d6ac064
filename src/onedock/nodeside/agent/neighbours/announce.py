"""Telling neighbours who has an address now: gratuitous ARP (RFC 5227 section 3), unsolicited NA (RFC 4861 7.2.6).

Without it, they and the switches in between send to where the address was until their memories run out.
"""

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.neighbours.frames import OVERRIDE, Address, Arp, Neighbour, arp, neighbour, target_mac
from onedock.nodeside.agent.steps import AddAddress, CreateVeth, PlugIn, RaiseHostLink, RaiseNic, SetMac, Step
from onedock.reconcilers.model import Network, Nic, VmId, namespace_name

log = structlog.get_logger()

_PLACING = (AddAddress, CreateVeth, PlugIn, RaiseHostLink, RaiseNic, SetMac)
_ETH_P_ARP = 0x0806
_ALL_NODES = "ff02::1"
_HOP_LIMIT = 255
_closing = ThreadPoolExecutor(1, "close")
"""Closes packet sockets: the kernel waits for an RCU grace period there, 15 ms that no start of a VM should pay."""


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


def _announce_ipv4(name: str, mac: bytes, addresses: Sequence[Address]) -> None:
    if addresses:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            raw.bind((name, _ETH_P_ARP))
            for address in addresses:
                # Some listen to requests only, some to answers only.
                for operation in (Arp.REQUEST, Arp.REPLY):
                    raw.send(arp(operation, mac, address, address))
        finally:
            _closing.submit(raw.close)


def _announce_ipv6(name: str, mac: bytes, addresses: Sequence[Address]) -> None:
    for address in addresses:
        # Through the kernel's IPv6: frames of our own would not pass the filter of a VM with security groups.
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
            index = socket.if_nametoindex(name)
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            raw.bind((str(address), 0, 0, index))
            message = neighbour(Neighbour.ADVERTISEMENT, OVERRIDE, address, target_mac(mac))
            raw.sendto(message, (_ALL_NODES, 0, 0, index))
