"""What a VM forges does not leave its node, what it may say does: raw frames through the filters of a real kernel."""

import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.support import packets
from tests.support.filtered import PEER4, PEER6, PEER_MAC, FilteredVm, frames

from onedock.nodeside.agent.firewall import shared
from onedock.nodeside.agent.firewall.host import part
from onedock.reconcilers.nic_parts import Bandwidth, Method, Spoofing, TrunkPort

pytestmark = pytest.mark.root

NUMBER = 230_020
VM4, VM6, ALIAS4, ALIAS6 = "10.9.0.1", "fd09::1", "10.9.0.33", "fd09::33"
MAC = f"02:00:00:{NUMBER >> 16:02x}:{NUMBER >> 8 & 255:02x}:{NUMBER & 255:02x}"
LINK = packets.link_local(MAC)
FOREIGN_MAC = "02:00:00:00:00:66"
FOREIGN4, FOREIGN6 = "10.9.0.66", "fd09::66"
ALL = "ff02::1"
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
HOP_BY_HOP = bytes([58, 0, 1, 4, 0, 0, 0, 0])


def _ether(kind: int, body: bytes, *, mac: str = MAC, tags: Any = ()) -> bytes:
    return packets.ether(PEER_MAC, mac, kind, body, tags=tags)


def _v4(source: str, *ports: int) -> bytes:
    return packets.udp(source, ports[0] if ports else 5, PEER4, ports[1] if ports else 6)


def _nd(source: str, kind: int, body: bytes, **more: Any) -> bytes:
    return _ether(packets.IPV6, packets.icmpv6(source, ALL, kind, body, **more))


NS, NA = packets.NEIGHBOUR_SOLICITATION, packets.NEIGHBOUR_ADVERTISEMENT
RS, RA = packets.ROUTER_SOLICITATION, packets.ROUTER_ADVERTISEMENT
NONCE = bytes([14, 1, 1, 2, 3, 4, 5, 6])

HONEST: dict[str, bytes] = {
    "arp request": _ether(packets.ARP, packets.arp(1, MAC, VM4, PEER4)),
    "arp answer for an alias": _ether(packets.ARP, packets.arp(2, MAC, ALIAS4, PEER4)),
    "arp probe": _ether(packets.ARP, packets.arp(1, MAC, "0.0.0.0", VM4)),
    "ipv4": _ether(packets.IPV4, _v4(VM4)),
    "ipv4 of an alias": _ether(packets.IPV4, _v4(ALIAS4)),
    "ipv6": _ether(packets.IPV6, packets.udp(VM6, 5, PEER6, 6)),
    "ipv6 of an alias": _ether(packets.IPV6, packets.udp(ALIAS6, 5, PEER6, 6)),
    "link-local": _ether(packets.IPV6, packets.udp(LINK, 5, PEER6, 6)),
    "a dhcp client": _ether(packets.IPV4, packets.udp("0.0.0.0", 68, "255.255.255.255", 67)),
    "a dhcp client that renews": _ether(packets.IPV4, _v4(VM4, 68, 67)),
    "a dhcpv6 client": _ether(packets.IPV6, packets.udp(LINK, 546, "ff02::1:2", 547)),
    "a dns server on the ports of DHCP's other family": _ether(packets.IPV6, packets.udp(VM6, 67, PEER6, 6)),
    "a fragment in the middle": _ether(packets.IPV4, packets.ip(VM4, PEER4, 17, bytes(64), fragment=(64, True))),
    "duplicate address detection": _nd("::", NS, packets.solicitation(VM6, None)),
    "duplicate address detection with a nonce": _nd("::", NS, packets.solicitation(LINK, None) + NONCE),
    "asking for a neighbour": _nd(VM6, NS, packets.solicitation(PEER6, MAC)),
    "asking for a neighbour without saying who": _nd(VM6, NS, packets.solicitation(PEER6, None)),
    "answering": _nd(VM6, NA, packets.advertisement(VM6, MAC)),
    "answering for an alias": _nd(ALIAS6, NA, packets.advertisement(ALIAS6, MAC)),
    "answering for the link": _nd(LINK, NA, packets.advertisement(LINK, None)),
    "asking for routers": _nd(LINK, RS, bytes(4) + bytes([1, 1]) + bytes.fromhex(MAC.replace(":", ""))),
    "asking for routers without an address": _nd("::", RS, bytes(4)),
    "joining a group": _ether(packets.IPV6, packets.ip(LINK, "ff02::16", 0, HOP_BY_HOP + b"\x8f" + bytes(7))),
    "joining a group without an address": _ether(
        packets.IPV6, packets.ip("::", "ff02::16", 0, HOP_BY_HOP + b"\x8f" + bytes(7))
    ),
}

FORGED_MAC: dict[str, bytes] = {
    "mac": _ether(packets.IPV4, _v4(VM4), mac=FOREIGN_MAC),
    "arp in a frame with a foreign mac": _ether(packets.ARP, packets.arp(1, MAC, VM4, PEER4), mac=FOREIGN_MAC),
    "mac in arp": _ether(packets.ARP, packets.arp(2, FOREIGN_MAC, VM4, PEER4)),
    "mac in an advertisement": _nd(VM6, NA, packets.advertisement(VM6, FOREIGN_MAC)),
    "mac in a second option": _nd(VM6, NA, packets.advertisement(VM6, MAC) + b"\x02\x01" + bytes(6)),
    "mac behind a nonce": _nd(VM6, NS, packets.solicitation(PEER6, None) + NONCE + b"\x01\x01" + bytes(6)),
    "mac in a solicitation": _nd(VM6, NS, packets.solicitation(PEER6, FOREIGN_MAC)),
    "mac in a solicitation for routers": _nd(LINK, RS, bytes(4) + b"\x01\x01" + bytes(6)),
    "an advertisement behind options": _nd(VM6, NA, packets.advertisement(VM6, MAC), options=True),
    "a tag": _ether(packets.IPV4, _v4(VM4, 5, 71), tags=((0x8100, 7),)),
    "a provider's tag": _ether(packets.IPV4, _v4(VM4, 5, 72), tags=((0x88A8, 7),)),
    "tag 0": _ether(packets.IPV4, _v4(VM4, 5, 73), tags=((0x8100, 0),)),
}

FORGED_IP: dict[str, bytes] = {
    "foreign ipv4": _ether(packets.IPV4, _v4(FOREIGN4)),
    "ipv4 nobody": _ether(packets.IPV4, _v4("0.0.0.0")),
    "ipv4 nobody to a single server": _ether(packets.IPV4, packets.udp("0.0.0.0", 68, PEER4, 67)),
    "ipv4 everybody": _ether(packets.IPV4, _v4("255.255.255.255")),
    "a fragment": _ether(packets.IPV4, packets.ip(FOREIGN4, PEER4, 17, bytes(64), fragment=(64, True))),
    "foreign ipv6": _ether(packets.IPV6, packets.udp(FOREIGN6, 5, PEER6, 6)),
    "ipv6 nobody": _ether(packets.IPV6, packets.udp("::", 5, PEER6, 6)),
    "a foreign link-local": _ether(packets.IPV6, packets.udp(packets.link_local(FOREIGN_MAC), 5, PEER6, 6)),
    "address in arp": _ether(packets.ARP, packets.arp(2, MAC, FOREIGN4, PEER4)),
    "address in gratuitous arp": _ether(packets.ARP, packets.arp(1, MAC, FOREIGN4, FOREIGN4)),
    "answering for others": _nd(VM6, NA, packets.advertisement(FOREIGN6, MAC)),
    "refusing somebody's address": _nd("::", NS, packets.solicitation(FOREIGN6, None)),
    "an advertisement in a fragment": _ether(
        packets.IPV6,
        packets.ip(VM6, ALL, 58, bytes([136, 0, 0, 0]) + packets.advertisement(FOREIGN6, MAC), fragment=(0, True)),
    ),
    "a router": _nd(LINK, RA, packets.router_advertisement("fd66::", MAC)),
    "a router behind options": _nd(LINK, RA, packets.router_advertisement("fd66::", MAC), options=True),
    "a redirect": _nd(LINK, packets.REDIRECT, packets.redirect(VM6, FOREIGN6, MAC)),
    "a dhcp server": _ether(packets.IPV4, packets.udp(VM4, 67, "255.255.255.255", 68)),
    "a dhcpv6 server": _ether(packets.IPV6, packets.udp(LINK, 547, PEER6, 546)),
    "another ethertype": _ether(0x88CC, b"lldp"),
    "ppp": _ether(0x8864, bytes(40)),
    "a tag around a foreign address": _ether(packets.IPV4, _v4(FOREIGN4), tags=((0x8100, 7),)),
    "two tags": _ether(packets.IPV4, _v4(VM4), tags=((0x8100, 7), (0x8100, 8))),
}


@pytest.fixture(scope="module")
def vm() -> Iterator[FilteredVm]:
    with FilteredVm(NUMBER) as made:
        yield made


def leaving(vm: FilteredVm, sent: dict[str, bytes]) -> set[str]:
    """Those that arrive at the neighbour, sent past everything in the VM's namespace."""
    last = _ether(packets.ARP, packets.arp(1, MAC, VM4, "10.9.0.250"))
    with vm.packet_socket() as raw, vm.packet_socket(peer=True) as peer:
        raw.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        for frame in (*sent.values(), last):
            raw.send(frame)
        got: set[str] = set()
        for frame in frames(peer, 5):
            if frame == last:
                return got
            got |= {name for name, one in sent.items() if _is(frame, one)}
    raise AssertionError(f"the last frame did not arrive: {vm.hits()}")


def _is(frame: bytes, sent: bytes) -> bool:
    """The neighbour's kernel takes the outer tag off, and a bridge that looks into packets takes padding off."""
    return any(one[: len(frame)] == frame and not any(one[len(frame) :]) for one in (sent, sent[:12] + sent[16:]))


@pytest.mark.parametrize(
    ("spoofing", "lost"),
    [
        (Spoofing(), {}),
        (Spoofing(mac=True), FORGED_MAC),
        (Spoofing(ip=True), FORGED_IP),
        (Spoofing(mac=True, ip=True), FORGED_MAC | FORGED_IP),
    ],
    ids=["none", "mac", "ip", "both"],
)
def test_what_is_honest_leaves_and_what_is_forged_does_not(
    vm: FilteredVm, spoofing: Spoofing, lost: dict[str, bytes]
) -> None:
    addresses = ("10.9.0.1/24", "fd09::1/64", f"{ALIAS4}/24")
    spoofing = Spoofing(spoofing.mac, spoofing.ip, (ALIAS6,))
    vm.configure(vm.nic(addresses=addresses, spoofing=spoofing))
    everything = HONEST | FORGED_IP | FORGED_MAC
    by_chance = {name for name in everything if name not in HONEST and name not in lost}
    left = leaving(vm, everything)
    assert set(HONEST) - left == set()
    assert set(lost) & left == set()
    if not (spoofing.mac or spoofing.ip):
        # Without a filter, tagged frames come out in a shape of their own.
        assert {name for name in by_chance - left if "tag" not in name} == set()


def test_tags_that_the_network_wants_do_not_hide_what_is_inside(vm: FilteredVm) -> None:
    vm.configure(vm.nic(spoofing=Spoofing(mac=True, ip=True), trunk=TrunkPort(tagged=(7,))))
    tagged = ((0x8100, 7),)
    sent = {
        "honest": _ether(packets.IPV4, _v4(VM4), tags=tagged),
        "honest arp": _ether(packets.ARP, packets.arp(1, MAC, VM4, PEER4), tags=tagged),
        "forged": _ether(packets.IPV4, _v4(FOREIGN4), tags=tagged),
        "forged arp": _ether(packets.ARP, packets.arp(1, MAC, FOREIGN4, PEER4), tags=tagged),
        "a router": _ether(
            packets.IPV6, packets.icmpv6(LINK, ALL, RA, packets.router_advertisement("fd66::", MAC)), tags=tagged
        ),
        "two tags": _ether(packets.IPV4, _v4(VM4), tags=((0x8100, 7), (0x8100, 8))),
    }
    assert leaving(vm, sent) == {"honest", "honest arp"}


def test_addresses_by_router_advertisement_have_the_macs_lower_half(vm: FilteredVm) -> None:
    vm.configure(vm.nic(addresses=(), spoofing=Spoofing(ip=True), method6=Method.AUTO))
    made, other = (f"2001:db8:7::{packets.link_local(mac)[6:]}" for mac in (MAC, FOREIGN_MAC))
    sent = {
        "own": _ether(packets.IPV6, packets.udp(made, 5, PEER6, 6)),
        "answering": _nd(made, NA, packets.advertisement(made, MAC)),
        "another": _ether(packets.IPV6, packets.udp(other, 5, PEER6, 6)),
        "answering for another": _nd(made, NA, packets.advertisement(other, MAC)),
    }
    with vm.packet_socket() as raw, vm.packet_socket(peer=True) as peer:
        for frame in (*sent.values(), _ether(packets.IPV4, packets.udp("0.0.0.0", 68, "255.255.255.255", 67))):
            raw.send(frame)
        got = []
        for frame in frames(peer, 5):
            if frame[12:14] == b"\x08\x00":
                break
            got += [name for name, one in sent.items() if _is(frame, one)]
    assert got == ["own", "answering"]


def test_raw_frames_are_limited_too(vm: FilteredVm) -> None:
    vm.configure(vm.nic(outbound=Bandwidth(average=100_000)))
    frame = _ether(packets.IPV4, packets.udp(VM4, 5, PEER4, 6, bytes(1400)))
    with vm.packet_socket() as raw, vm.packet_socket(peer=True) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        raw.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        begin = time.monotonic()
        for _ in range(1500):
            raw.send(frame)
        took = time.monotonic() - begin
        arrived = sum(len(got) for got in frames(peer, 0.3) if got[:14] == frame[:14])
    most = 262_144 + 125_000 * (1 + took) + 20_000
    assert 100_000 < arrived < most
    assert vm.hits()["rate"] > 1500 - most / len(frame)


@pytest.mark.parametrize(
    "damage",
    [
        "flush table {table}",
        "flush chain {table} {chain}",
        "delete table {table}",
        "insert rule {table} {chain} accept",
        "add rule {table} {chain} accept",
        "add element {table} {set} {{ 10.66.66.66 }}",
        "delete element {table} {set} {{ 10.9.0.1 }}",
        "flush set {table} {set}",
        "delete chain {table} {chain}",
        "add chain {table} {chain} {{ policy drop; }}",
        "add table {table} {{ flags dormant; }}",
    ],
)
def test_damage_by_hand_is_seen(vm: FilteredVm, damage: str) -> None:
    nic = vm.nic(spoofing=Spoofing(mac=True, ip=True), outbound=Bandwidth(100_000))
    vm.configure(nic)
    ruleset = vm.rulesets(nic)[1]
    assert ruleset is not None
    assert ruleset.part is not None
    read = partial(vm.at_node, partial(shared.fingerprint, ruleset.part))
    before = read()
    leaving(vm, HONEST | FORGED_MAC)
    assert read() == before, "packets are no damage"
    names = {"table": "netdev onedock", "chain": vm.host_name, "set": f"{vm.host_name}.net4"}
    vm.nft_at_node(damage.format(**names))
    assert read() != before
    again = vm.at_node(partial(shared.load, ruleset))
    assert again.fingerprint == read()


def test_removal_works_whatever_became_of_the_nic() -> None:
    with FilteredVm(NUMBER + 1) as vm:
        nic = vm.nic(spoofing=Spoofing(mac=True))
        vm.configure(nic)
        mine = part(vm.number, [nic])
        read = partial(vm.at_node, partial(shared.fingerprint, mine))
        assert read() is not None
        vm.on_node("link", "del", vm.host_name)
        vm.at_node(partial(shared.unload, mine))
        assert read() is None
        vm.at_node(partial(shared.unload, mine))
