"""Does somebody have an address already? Asked before a NIC gets it for the first time (``Nic.probe``).

In the form of RFC 5227 (ARP probe) and by the kernel's own detection of RFC 4862, but quicker: a start does not wait
for seconds. Who is asleep, or behind a slow tunnel, may be missed.
"""

import ipaddress
import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.neighbours.frames import Claim, arp, claim
from onedock.reconcilers.model import Network, Nic, VmId, namespace_name

_ETH_P_ALL = 3
_PACKET_OUTGOING = 4
_PROBES, _PROBE_S = 3, 0.1
_FRAME_BYTES = 2048
_QUICK = (
    ("ipv6/conf/{}/dad_transmits", str(_PROBES)),
    ("ipv6/conf/{}/router_solicitation_delay", "0"),  # the longest delay of the first probe, too
    ("ipv6/neigh/{}/retrans_time_ms", str(round(_PROBE_S * 1000))),
)


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody has an address that a NIC was to get."""

    nic: int
    """NIC_ID."""
    address: str
    mac: str
    """Of who has it."""

    @property
    def reason(self) -> str:
        """Why the NIC does not get it."""
        return (
            f"address {self.address} of NIC {self.nic} is taken by {self.mac};"
            " find who has that MAC on the network, or hold the address in the virtual network (onevnet hold)"
        )


def unproven(network: Network, earlier: Network) -> tuple[Nic, ...]:
    """The NICs that have to ask before they get addresses, each with those addresses only."""
    had = {(nic.index, nic.mac): frozenset(nic.addresses) for nic in earlier.nics}
    asking = (
        replace(nic, addresses=tuple(one for one in nic.addresses if one not in had.get((nic.index, nic.mac), ())))
        for nic in network.nics
        if nic.probe
    )
    return tuple(nic for nic in asking if nic.addresses)


def without(network: Network, asking: Iterable[Nic]) -> Network:
    """The network before those addresses are on it; its spoofing filter knows them already."""
    fresh = {nic.index: nic.addresses for nic in asking}
    return replace(network, nics=tuple(_bare(nic, fresh.get(nic.index, ())) for nic in network.nics))


def ask(vm: VmId, asking: Sequence[Nic]) -> tuple[Taken, ...]:
    """Ask for all addresses at once, for 0.3 s. Blocking, in a thread that belongs to namespaces; NICs must be up."""
    namespaces.enter(namespace_name(vm))
    with ExitStack() as stack:
        # Not select(): the agent has more descriptors than that can count.
        waiting = stack.enter_context(selectors.DefaultSelector())
        sockets = [(stack.enter_context(_socket(nic.name)), nic) for nic in asking]
        for raw, nic in sockets:
            waiting.register(raw, selectors.EVENT_READ, nic)
        stack.enter_context(_detection(asking))
        found: dict[Taken, None] = {}
        for _ in range(_PROBES):
            for raw, nic in sockets:
                for address in _ips(nic):
                    if address.version == 4:
                        raw.send(arp(bytes.fromhex(nic.mac.replace(":", "")), None, address))
            deadline = time.monotonic() + _PROBE_S
            while (left := deadline - time.monotonic()) > 0:
                for key, _ in waiting.select(left):
                    found.update(dict.fromkeys(_heard(key.fileobj, key.data)))
    return tuple(found)


def _bare(nic: Nic, fresh: Sequence[str]) -> Nic:
    left = tuple(one for one in nic.addresses if one not in fresh)
    known = (*nic.spoofing.addresses, *(str(ipaddress.ip_interface(one).ip) for one in fresh))
    bare = replace(nic, addresses=left, spoofing=replace(nic.spoofing, addresses=known))
    return bare if left else replace(bare, gateways=(), routes=())


def _ips(nic: Nic) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    return [ipaddress.ip_interface(address).ip for address in nic.addresses]


@contextmanager
def _detection(asking: Iterable[Nic]) -> Iterator[None]:
    """The kernel probes for IPv6 addresses as long as they are tentative; no frame of ours would pass a VM's filter."""
    with IPRoute() as inside, ExitStack() as stack:
        for nic in asking:
            addresses = [one for one in map(ipaddress.ip_interface, nic.addresses) if one.version == 6]
            if addresses:
                for key, value in _QUICK:
                    stack.enter_context(_sysctl(key.format(nic.name), value))
                index = socket.if_nametoindex(nic.name)
                for one in addresses:
                    what = {"index": index, "address": str(one.ip), "prefixlen": one.network.prefixlen}
                    inside.addr("add", **what)
                    stack.callback(inside.addr, "del", **what)
        yield


@contextmanager
def _sysctl(key: str, value: str) -> Iterator[None]:
    before = Path("/proc/sys/net", key).read_text()
    namespaces.sysctl(key, value)
    yield
    namespaces.sysctl(key, before)


def _heard(raw: Any, nic: Nic) -> Iterable[Taken]:
    frame, sender = raw.recvfrom(_FRAME_BYTES)
    said: Claim | None = claim(frame) if sender[2] != _PACKET_OUTGOING else None
    if said is not None and said.mac != nic.mac.lower() and said.address in map(str, _ips(nic)):
        yield Taken(nic.index, said.address, said.mac)


def _socket(name: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    raw.bind((name, _ETH_P_ALL))
    return raw
