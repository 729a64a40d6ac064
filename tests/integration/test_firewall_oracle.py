"""Random packets past random security groups in the real kernel: through comes what the rules say, one by one."""

import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest
from tests.support import packets
from tests.support.filtered import PEER_MAC, FilteredVm, frames
from tests.support.oracle_rules import Packet, passes_groups

from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule, Spoofing

pytestmark = pytest.mark.root

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
ALL_OUT = SecurityRule(0, OUT, Protocol.ALL)
ALL_IN = SecurityRule(0, IN, Protocol.ALL)
VM4, VM6 = "10.9.0.1", "fd09::1"
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


@pytest.fixture
def vm() -> Iterator[FilteredVm]:
    with FilteredVm(230_011) as made:
        yield made


class _Dice:
    """Random rules and random packets that are near their edges."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._number = 1024

    def rules(self, direction: Direction) -> tuple[SecurityRule, ...]:
        return tuple(self._rule(direction) for _ in range(self._random.randint(0, 7)))

    def _rule(self, direction: Direction) -> SecurityRule:
        some = self._random
        protocol = some.choice(list(Protocol))
        ports: list[tuple[int, int]] = []
        if protocol in {Protocol.TCP, Protocol.UDP} and some.random() < 0.7:
            ports = [self._range(79, 95) for _ in range(some.randint(1, 3))]
        kinds = {Protocol.ICMP: [0, 3, 8, 13], Protocol.ICMPV6: [1, 128, 129, 143]}.get(protocol, [])
        kind = some.choice(kinds) if kinds and some.random() < 0.6 else None
        peers = [self._peers() for _ in range(some.randint(1, 3))] if some.random() < 0.7 or protocol == "all" else []
        return SecurityRule(some.randint(100, 102), direction, protocol, tuple(ports), kind, tuple(peers))

    def packet(self, direction: Direction) -> Packet:
        some = self._random
        self._number += 1
        family = some.choice([4, 6])
        other = self._address(family, some.randint(1, 24))
        own = VM4 if family == 4 else VM6
        ends = (other, own) if direction is IN else (own, other)
        protocol = some.choice([6, 17, 50, 1 if family == 4 else 58])
        kinds = [0, 3, 8, 13] if family == 4 else [1, 128, 129, 133, 134, 135, 136, 137, 143]
        kind = some.choice(kinds) if protocol in {1, 58} else 0
        port = some.randint(78, 96) if protocol in {6, 17} else 0
        return Packet(*ends, protocol, self._number if port else 0, port, kind)

    def _range(self, first: int, last: int) -> tuple[int, int]:
        ends = sorted(self._random.randint(first, last) for _ in range(2))
        return ends[0], ends[1]

    def _peers(self) -> tuple[str, str]:
        family = self._random.choice([4, 6])
        first, last = self._range(1, 24)
        return self._address(family, first), self._address(family, last)

    @staticmethod
    def _address(family: int, number: int) -> str:
        return f"10.77.0.{number}" if family == 4 else f"fd77::{number:x}"


def whole(packet: Packet, number: int) -> bytes:
    """The packet's bytes; ``number`` makes the flow of an ICMP message its own."""
    ends = (packet.source, packet.target)
    body = struct.pack("!HH", number & 0xFFFF, 1) + b"odt!" + number.to_bytes(4)
    match packet.protocol:
        case 6:
            return packets.tcp_syn(packet.source, packet.source_port, packet.target, packet.port)
        case 17:
            return packets.udp(packet.source, packet.source_port, packet.target, packet.port)
        case 1:
            return packets.icmp(*ends, packet.icmp_type, body)
        case 58:
            return packets.icmpv6(*ends, packet.icmp_type, body)
        case _:
            return packets.ip(*ends, packet.protocol, body)


@pytest.mark.parametrize("seed", range(12))
def test_inbound_is_what_the_rules_say(vm: FilteredVm, seed: int) -> None:
    dice = _Dice(seed)
    vm.silence_neighbour()
    nic = vm.nic(rules=(*dice.rules(IN), ALL_OUT))
    vm.configure(nic)
    with vm.packet_socket(peer=True) as peer:
        for number in range(60):
            packet = dice.packet(IN)
            before = _inbound(vm)
            frame = packets.ether(vm.mac, PEER_MAC, packets.kind_of(packet.source), whole(packet, number))
            peer.send(frame)
            counted = {rule for rule, hits in _changed(vm, before).items() if hits}
            assert ("in.dropped" not in counted) == passes_groups(nic, IN, packet), (packet, counted, nic.rules)


def _inbound(vm: FilteredVm) -> dict[str, int]:
    return {rule: hits for rule, hits in vm.hits().items() if rule.startswith("in.")}


def _changed(vm: FilteredVm, before: dict[str, int]) -> dict[str, int]:
    """Counters of the one packet that was sent."""
    deadline = time.monotonic() + 10
    while (now := _inbound(vm)) == before:
        assert time.monotonic() < deadline, "the packet was not counted at all"
    return {rule: hits - before[rule] for rule, hits in now.items()}


@pytest.mark.parametrize("seed", range(12))
def test_outbound_is_what_the_rules_say(vm: FilteredVm, seed: int) -> None:
    dice = _Dice(seed)
    nic = vm.nic(rules=(*dice.rules(OUT), ALL_IN), spoofing=Spoofing(mac=True, ip=True))
    vm.configure(nic)
    vm.route_everything()
    sent = {whole(packet, number): packet for number, packet in enumerate(dice.packet(OUT) for _ in range(60))}
    assert _leaving(vm, list(sent)) == {
        raw for raw, packet in sent.items() if passes_groups(nic, OUT, packet) and not _is_strange(packet)
    }


def _is_strange(packet: Packet) -> bool:
    """Neighbour discovery without its fields: the groups let it out, the filter of MACs does not."""
    return packet.protocol == 58 and packet.icmp_type in range(133, 138)


def _leaving(vm: FilteredVm, raw_packets: list[bytes]) -> set[bytes]:
    """Those of the packets, given to the VM's IP stack, that arrive at the neighbour."""
    with vm.packet_socket(peer=True) as peer, vm.packet_socket() as marker:
        vm.in_vm(partial(_send_packets, raw_packets))
        # Behind all others on the same way, and never stopped by groups.
        marker.send(packets.ether(packets.BROADCAST, vm.mac, packets.ARP, packets.arp(1, vm.mac, VM4, "10.9.0.250")))
        seen: set[bytes] = set()
        for frame in frames(peer, 5):
            if frame[:6] == b"\xff" * 6 and frame[12:14] == b"\x08\x06":
                return seen & set(raw_packets)
            seen.update(raw for raw in raw_packets if _same(frame[14 : 14 + len(raw)], raw))
    raise AssertionError("the last frame did not arrive")


def _same(frame: bytes, raw: bytes) -> bool:
    """Without IPv4's id and checksum, which the kernel may set."""
    return frame[:4] == raw[:4] and frame[12:] == raw[12:] if raw[0] >> 4 == 4 else frame == raw


def _send_packets(raw_packets: list[bytes]) -> None:
    four, six = (socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) for family in _FAMILIES)
    with four, six:
        for raw in raw_packets:
            with suppress(PermissionError):  # what the rules drop is no secret to the sender
                if raw[0] >> 4 == 4:
                    four.sendto(raw, (socket.inet_ntoa(raw[16:20]), 0))
                else:
                    six.sendto(raw, (socket.inet_ntop(socket.AF_INET6, raw[24:40]), 0))
