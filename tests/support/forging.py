"""Frames of a guest, as orders to a forger in its container: every field is as told."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support import packets as p
from tests.support.forger import Order

from onedock.reconcilers.model import Nic

PEER, PEER_6, PEER_MAC = "10.81.0.200", "fd81::c8", "02:00:81:00:00:c8"
CLAIMED, CLAIMED_6 = "10.81.0.250", "fd81::fa"
"""Addresses that the guest does not have, and nobody else either."""
FOREIGN_MAC = "02:66:66:66:66:66"
OPEN_PORT, CLOSED_PORT = 7001, 22
"""What the groups let out by UDP, and what they do not."""

CONTROL, MAC, IP, BOTH, GROUPS, ALL = "control", "mac", "ip", "mac and ip", "groups", "groups, mac and ip"
KINDS = (CONTROL, MAC, IP, BOTH, GROUPS, ALL)
"""One NIC of the guest for each."""
BY_MAC, BY_IP, BY_GROUPS = {MAC, BOTH, ALL}, {IP, BOTH, ALL}, {GROUPS, ALL}


@dataclass(frozen=True, slots=True)
class Guest:
    """What a NIC of the guest is."""

    link: str
    mac: str
    address: str
    address6: str

    @classmethod
    def of(cls, nic: Nic) -> "Guest":
        """Of a NIC with one address of each family."""
        four, six = (str(ipaddress.ip_interface(one).ip) for one in nic.addresses)
        return cls(nic.name, nic.mac, four, six)

    @property
    def link_local(self) -> str:
        return p.link_local(self.mac)


@dataclass(frozen=True, slots=True)
class Forgery:
    """One attempt; its orders are done one after the other."""

    name: str
    orders: Callable[[Guest, bytes], list[Order]]
    """Of the guest's NIC and the token that the frame has in it."""
    stopped_by: frozenset[str] = field(default_factory=frozenset)
    """Those of ``KINDS`` that let nothing of it out. All others let it pass."""

    def __str__(self) -> str:
        return self.name


def honest_frame(guest: Guest, token: bytes) -> list[Order]:
    """Passes all filters."""
    return frame(guest, p.ARP, p.arp(p.REQUEST, guest.mac, guest.address, PEER), token)


def frame(
    guest: Guest,
    kind: int,
    payload: bytes,
    token: bytes,
    *,
    source: str | None = None,
    target: str = p.BROADCAST,
    tags: tuple[tuple[int, int], ...] = (),
    how: str = "packet",
) -> list[Order]:
    """A frame with the token at its end."""
    return [(how, guest.link, p.ether(target, source or guest.mac, kind, payload + token, tags=tags).hex())]


def arp(guest: Guest, token: bytes, operation: int, mac: str, sender: str, target: str) -> list[Order]:
    """A broadcast ARP message."""
    return frame(guest, p.ARP, p.arp(operation, mac, sender, target), token)


def nd(
    guest: Guest, token: bytes, kind: int, body: bytes, *, source: str | None = None, options: bool = False
) -> list[Order]:
    """ICMPv6 to all nodes."""
    packet = p.icmpv6(source or guest.link_local, p.ALL_NODES, kind, body, options=options)
    return frame(guest, p.IPV6, p.labelled(packet, token), b"", target=p.ALL_NODES_MAC)


def udp(
    guest: Guest,
    token: bytes,
    *,
    source: str | None = None,
    mac: str | None = None,
    ports: tuple[int, int] = (5000, OPEN_PORT),
    target: str = PEER,
    how: str = "packet",
    tags: tuple[tuple[int, int], ...] = (),
) -> list[Order]:
    """A datagram to the peer, as a frame."""
    packet = p.udp(source or guest.address, ports[0], target, ports[1], token)
    kind = p.IPV6 if ":" in target else p.IPV4
    return frame(guest, kind, packet, b"", source=mac, tags=tags, how=how)


def syn(guest: Guest, token: bytes, how: str) -> list[Order]:
    """A question for a connection that the groups forbid."""
    return frame(guest, p.IPV4, p.tcp_syn(guest.address, 5000, PEER, CLOSED_PORT, token), b"", how=how)


def stack_udp(guest: Guest, token: bytes, source: str, port: int, target: str = PEER) -> list[Order]:
    """A datagram to the peer with its header, through the IP stack."""
    return [("stack", guest.link, p.udp(source, 5000, target, port, token).hex(), target)]


def fragments(guest: Guest, token: bytes) -> list[Order]:
    """The port is in the first one, and the token in the second."""
    whole = p.udp(guest.address, 5000, PEER, CLOSED_PORT, bytes(24) + token)[20:]
    first = p.ip(guest.address, PEER, 17, whole[:16], fragment=(0, True))
    parts = (first, p.ip(guest.address, PEER, 17, whole[16:], fragment=(16, False)))
    return [("stack", guest.link, part.hex(), PEER) for part in parts]


def poisoned(guest: Guest, token: bytes, inject: str) -> list[Order]:
    """A packet from the peer is made up inside, so that what is sent there looks like its answer."""
    question = p.udp(PEER, CLOSED_PORT, guest.address, 5353)
    if inject == "packet":
        made_up: Order = ("packet", "lo", p.ether("00:00:00:00:00:00", "00:00:00:00:00:00", p.IPV4, question).hex())
    else:
        made_up = ("stack", "lo", question.hex(), guest.address)
    return [made_up, ("datagram", guest.link, guest.address, 5353, PEER, CLOSED_PORT, token.hex())]


def both_ends(guest: Guest, token: bytes) -> list[Order]:
    """A flow that the groups let out is made up from the peer's forbidden port; then its answer, which goes there."""
    question = p.udp(PEER, CLOSED_PORT, CLAIMED, OPEN_PORT)
    answer = p.udp(CLAIMED, OPEN_PORT, PEER, CLOSED_PORT, token)
    return [("stack", guest.link, question.hex(), CLAIMED), ("stack", guest.link, answer.hex(), PEER)]


def server(guest: Guest, token: bytes) -> list[Order]:
    """An offer of a DHCP server."""
    offer = p.dhcp(p.REPLY, FOREIGN_MAC, kind=2, yours=CLAIMED, server=guest.address)
    return frame(guest, p.IPV4, p.udp(guest.address, 67, "255.255.255.255", 68, offer + token), b"")


def discover(guest: Guest, token: bytes) -> list[Order]:
    """A DHCP client's first question."""
    asked = p.dhcp(p.REQUEST, guest.mac, kind=1)
    return frame(guest, p.IPV4, p.udp("0.0.0.0", 68, "255.255.255.255", 67, asked + token), b"")
