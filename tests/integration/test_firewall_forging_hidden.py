"""Frames that are not what they seem: by what their sender says of them, in fragments, in two tags."""

import struct
from collections.abc import Iterator

import pytest
from tests.support import packets
from tests.support.filtered import PEER4, PEER6, PEER_MAC, FilteredVm, frames

from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Direction, Method, Protocol, SecurityRule, Spoofing, TrunkPort

pytestmark = pytest.mark.root

NUMBER = 270_030
MAC = f"02:00:00:{NUMBER >> 16:02x}:{NUMBER >> 8 & 255:02x}:{NUMBER & 255:02x}"
VM4, VM6, FOREIGN4 = "10.9.0.1", "fd09::1", "10.9.0.66"
LINK = packets.link_local(MAC)
UDP, ICMPV6, OPTIONS = 17, 58, 60
RULES = (
    SecurityRule(1, Direction.OUTBOUND, Protocol.UDP, ports=((7001, 7001),)),
    SecurityRule(1, Direction.INBOUND, Protocol.ALL),
)
BOTH = Spoofing(mac=True, ip=True)

Sent = dict[str, tuple[bytes, ...]]


def ether(kind: int, body: bytes, *, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    return packets.ether(PEER_MAC, MAC, kind, body, tags=tags)


def fragments(following: int, *parts: bytes, target: str = packets.ALL_NODES) -> tuple[bytes, ...]:
    """A packet of IPv6, taken apart as told; ``following`` is what all its fragment headers say of what it is."""
    made, offset = [], 0
    for part in parts:
        more = part is not parts[-1]
        header = struct.pack("!BxHI", following, offset | more, 0x5EED)
        made.append(ether(packets.IPV6, packets.ip(LINK, target, 44, header + part)))
        offset += len(part)
    return tuple(made)


def options(following: int, size: int) -> bytes:
    """A header of destination options that says nothing."""
    return bytes([following, size // 8 - 1, 1, size - 4]) + bytes(size - 4)


ROUTER = packets.icmpv6(LINK, packets.ALL_NODES, 134, packets.router_advertisement("fd66::", None))[40:]
DHCP6 = packets.udp(LINK, 547, PEER6, 546, bytes(40))[40:]
DATAGRAM = packets.udp(LINK, 5, PEER6, 6, bytes(64))[40:]

HONEST: Sent = {
    "a datagram in fragments": fragments(UDP, DATAGRAM[:32], DATAGRAM[32:], target=PEER6),
    "a probe for its own address": (ether(packets.ARP, packets.arp(1, MAC, "0.0.0.0", VM4)),),
    "a client of DHCP": (ether(packets.IPV4, packets.udp("0.0.0.0", 68, "255.255.255.255", 67)),),
    "a client of DHCP that renews": (ether(packets.IPV4, packets.udp(VM4, 68, PEER4, 67)),),
}
FORGED: Sent = {
    "a router behind half a header": fragments(OPTIONS, options(ICMPV6, 16)[:8], options(ICMPV6, 16)[8:] + ROUTER),
    "a router behind a header": (
        *fragments(OPTIONS, options(ICMPV6, 8), ROUTER)[:1],
        *fragments(ICMPV6, options(ICMPV6, 8), ROUTER)[1:],
    ),
    "a server of DHCPv6 behind a header": fragments(OPTIONS, options(UDP, 8), DHCP6, target=PEER6),
    "fragments of fragments": fragments(44, struct.pack("!BxHI", ICMPV6, 1, 1) + ROUTER[:8], ROUTER[8:]),
    "a probe for somebody's address": (ether(packets.ARP, packets.arp(1, MAC, "0.0.0.0", FOREIGN4)),),
    "an answer of DHCP from any port": (ether(packets.IPV4, packets.udp(VM4, 5000, "255.255.255.255", 68)),),
    "an answer of DHCPv6 from any port": (ether(packets.IPV6, packets.udp(LINK, 5000, PEER6, 546)),),
}


@pytest.fixture(scope="module")
def vm() -> Iterator[FilteredVm]:
    with FilteredVm(NUMBER) as made:
        assert made.mac == MAC
        yield made


def arriving(vm: FilteredVm, nic: Nic, sent: Sent, *, said: int = 0) -> set[str]:
    """Those that arrive at the neighbour as a whole; ``said`` is the protocol that they are sent as."""
    vm.configure(nic)
    last = ether(packets.ARP, packets.arp(1, MAC, VM4, "10.9.0.250"))
    got: list[bytes] = []

    def came(part: bytes) -> bool:
        """A bridge that looks into packets takes padding off."""
        return any(part.startswith(one) for one in got)

    with vm.packet_socket() as raw, vm.packet_socket(peer=True) as peer:
        for frame in (frame for parts in sent.values() for frame in parts):
            try:
                raw.sendto(frame, ("eth0", said))
            except OSError:
                continue  # it was dropped within the VM's namespace already
        raw.send(last)
        for frame in frames(peer, 5):
            if frame == last:
                return {name for name, parts in sent.items() if all(map(came, parts))}
            got.append(frame)
    raise AssertionError(f"the last frame did not arrive: {vm.hits()}")


@pytest.mark.parametrize(("spoofing", "passed"), [(Spoofing(), HONEST | FORGED), (BOTH, HONEST)], ids=["none", "both"])
def test_what_is_forged_in_parts_does_not_leave_as_a_whole(vm: FilteredVm, spoofing: Spoofing, passed: Sent) -> None:
    assert arriving(vm, vm.nic(spoofing=spoofing), HONEST | FORGED) == set(passed)


@pytest.mark.parametrize("said", [packets.ARP, packets.IPV4, packets.IPV6, 0x8100, 0x88B5])
def test_groups_hold_whatever_a_frame_is_said_to_be(vm: FilteredVm, said: int) -> None:
    sent: Sent = {
        "IPv4": (ether(packets.IPV4, packets.udp(VM4, 5, PEER4, 22)),),
        "IPv6": (ether(packets.IPV6, packets.udp(VM6, 5, PEER6, 22)),),
        "like a client of DHCP": (ether(0x88B5, packets.udp("0.0.0.0", 68, "255.255.255.255", 67)),),
    }
    assert arriving(vm, vm.nic(rules=RULES, method=Method.DHCP), sent, said=said) == set()
    assert arriving(vm, vm.nic(), sent, said=said) == set(sent)


def test_tags_within_a_wanted_tag_hide_nothing(vm: FilteredVm) -> None:
    nic = vm.nic(spoofing=Spoofing(mac=True), trunk=TrunkPort(tagged=(7,)))
    arp = packets.arp(2, "02:00:00:00:00:66", VM4, PEER4)
    sent: Sent = {f"{tag:x}": (ether(packets.ARP, arp, tags=((0x8100, 7), (tag, 8))),) for tag in (0x8100, 0x88A8)}
    assert arriving(vm, nic, sent) == set()
