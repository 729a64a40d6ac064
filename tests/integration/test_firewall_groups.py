"""Security groups in the real kernel: what they let through, what goes on while they change, who gets around them."""

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from tests.support import packets
from tests.support.filtered import PEER4, PEER6, PEER_MAC, FilteredVm, frames, ip_here
from tests.support.oracle_rules import Packet, passes_groups

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.firewall import kernel
from onedock.nodeside.agent.firewall.ruleset import guard_of_loopback
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.nic_parts import Direction, Method, Protocol, SecurityRule, Spoofing

pytestmark = pytest.mark.root

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
ALL_OUT = SecurityRule(0, OUT, Protocol.ALL)
ALL_IN = SecurityRule(0, IN, Protocol.ALL)
VM4, VM6 = "10.9.0.1", "fd09::1"
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
SO_MARK = 36
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


@pytest.fixture
def vm() -> Iterator[FilteredVm]:
    with FilteredVm(230_010) as made:
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


def kind_of(source: str) -> int:
    return packets.IPV6 if ":" in source else packets.IPV4


@pytest.mark.parametrize("seed", range(12))
def test_inbound_is_what_the_rules_say(vm: FilteredVm, seed: int) -> None:
    dice = _Dice(seed)
    _silence(vm)
    nic = vm.nic(rules=(*dice.rules(IN), ALL_OUT))
    vm.configure(nic)
    with vm.packet_socket(peer=True) as peer:
        for number in range(60):
            packet = dice.packet(IN)
            before = _inbound(vm)
            frame = packets.ether(vm.mac, PEER_MAC, kind_of(packet.source), whole(packet, number))
            peer.send(frame)
            counted = {rule for rule, hits in _changed(vm, before).items() if hits}
            assert ("in.dropped" not in counted) == passes_groups(nic, IN, packet), (packet, counted, nic.rules)


def _inbound(vm: FilteredVm) -> dict[str, int]:
    return {rule: hits for rule, hits in vm.hits().items() if rule.startswith("in.")}


def _changed(vm: FilteredVm, before: dict[str, int]) -> dict[str, int]:
    """Counters of the one packet that was sent."""
    deadline = time.monotonic() + 2
    while (now := _inbound(vm)) == before:
        assert time.monotonic() < deadline, "the packet was not counted at all"
    return {rule: hits - before[rule] for rule, hits in now.items()}


def _silence(vm: FilteredVm) -> None:
    """The VM hears nothing from the neighbour by itself, which reports its groups now and then."""
    vm.on_node("link", "set", vm.host_name, "type", "bridge_slave", "mcast_flood", "off")
    vm.beside(partial(namespaces.sysctl, "ipv6/conf/peer/disable_ipv6", "1"))


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


@pytest.fixture
def server(vm: FilteredVm) -> Iterator[socket.socket]:
    """A listening socket in the VM, port 8080."""
    vm.configure(vm.nic())
    with vm.in_vm(partial(socket.create_server, ("", 8080))) as listening:
        listening.settimeout(5)
        yield listening


def _connect(port: int = 8080, *, seconds: float = 5, address: str = VM4) -> socket.socket:
    return socket.create_connection((address, port), timeout=seconds)


def test_an_open_connection_survives_every_change_of_the_rules(vm: FilteredVm, server: socket.socket) -> None:
    web = SecurityRule(100, IN, Protocol.TCP, ports=((8080, 8080),))
    vm.configure(vm.nic(rules=(web, ALL_OUT)))
    with vm.beside(_connect) as client, server.accept()[0] as served:
        for rules in [(), (SecurityRule(7, IN, Protocol.UDP),), (web,), ()]:
            vm.configure(vm.nic(rules=rules))
            client.sendall(b"question")
            assert served.recv(64) == b"question"
            served.sendall(b"answer")
            assert client.recv(64) == b"answer"
        with pytest.raises(TimeoutError):
            vm.beside(partial(_connect, seconds=0.3))
        vm.configure(vm.nic(rules=None))
        with vm.beside(_connect):
            client.sendall(b"more")
            assert served.recv(64) == b"more"


def test_a_connection_opened_before_there_were_rules_goes_on_with_what_the_vm_may_send(
    vm: FilteredVm, server: socket.socket
) -> None:
    with vm.beside(_connect) as client, server.accept()[0] as served:
        vm.configure(vm.nic(rules=(ALL_OUT,)))
        served.sendall(b"hello")
        assert client.recv(64) == b"hello"
        client.sendall(b"you")
        assert served.recv(64) == b"you"


def test_answers_and_errors_of_flows_come_back(vm: FilteredVm) -> None:
    _silence(vm)
    vm.configure(vm.nic(rules=(SecurityRule(1, OUT, Protocol.UDP),)))
    with vm.in_vm(partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        asking.settimeout(5)
        asking.connect((PEER4, 9999))
        asking.send(b"?")
        with pytest.raises(ConnectionRefusedError):  # the neighbour's ICMP belongs to the flow
            asking.recv(10)
        with vm.beside(partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)) as answering:
            answering.bind((PEER4, 9998))
            asking.connect((PEER4, 9998))
            asking.send(b"?")
            question, source = answering.recvfrom(10)
            answering.sendto(b"!", source)
            assert (question, asking.recv(10)) == (b"?", b"!")
    assert vm.hits()["in.dropped"] == 0


def test_a_flow_without_answers_ends_when_its_rule_goes(vm: FilteredVm) -> None:
    stream = SecurityRule(1, OUT, Protocol.UDP, ports=((7777, 7777),))
    vm.configure(vm.nic(rules=(stream,)))
    with vm.beside(partial(_bound, ("", 7777))) as peer, vm.in_vm(partial(_bound, ("", 0))) as sending:
        target = (f"::ffff:{PEER4}", 7777)
        for number in range(5):
            sending.sendto(bytes([number]), target)
            assert peer.recv(16) == bytes([number])
        assert vm.hits()["out.group-1"] == 1, "the other ones were known"
        vm.configure(vm.nic(rules=(stream, SecurityRule(2, OUT, Protocol.TCP))))
        sending.sendto(b"after a change", target)
        assert peer.recv(16) == b"after a change"
        assert vm.hits()["out.group-1"] == 2, "looked up again"
        vm.configure(vm.nic(rules=(SecurityRule(2, OUT, Protocol.TCP),)))
        with pytest.raises(PermissionError):
            sending.sendto(b"no more", target)


def test_ipv6_finds_its_neighbours_whatever_the_rules_say(vm: FilteredVm) -> None:
    vm.configure(vm.nic(rules=(SecurityRule(1, OUT, Protocol.TCP),), spoofing=Spoofing(mac=True, ip=True)))
    with vm.beside(partial(socket.create_server, (PEER6, 80), family=socket.AF_INET6)) as listening:
        listening.settimeout(5)
        with vm.in_vm(partial(_connect, 80, address=PEER6)), listening.accept()[0]:
            pass
    assert vm.hits()["nd"] == 0


def test_inside_of_the_vm_nothing_is_filtered(vm: FilteredVm) -> None:
    vm.configure(vm.nic(rules=()))
    with vm.in_vm(partial(socket.create_server, ("", 80))) as listening:
        listening.settimeout(5)
        for address in ("127.0.0.1", VM4):
            with vm.in_vm(partial(_connect, 80, address=address)), listening.accept()[0]:
                pass


@pytest.mark.parametrize("group", ["239.1.2.3", "ff05::123"])
def test_the_vm_hears_its_own_multicast_and_nobody_elses(vm: FilteredVm, group: str) -> None:
    vm.configure(vm.nic(rules=(ALL_OUT,)))
    with vm.in_vm(partial(_member, group)) as listening, vm.in_vm(partial(_member, group)) as sending:
        sending.sendto(b"own", (group, 5353))
        assert listening.recv(16) == b"own"
    before = vm.hits()["in.dropped"]
    source = PEER6 if ":" in group else PEER4
    with vm.packet_socket(peer=True) as peer:
        peer.send(packets.ether(vm.mac, PEER_MAC, kind_of(source), packets.udp(source, 1, group, 5353)))
    _until(lambda: vm.hits()["in.dropped"] > before)


def _member(group: str) -> socket.socket:
    index = socket.if_nametoindex("eth0")
    if ":" in group:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        membership = socket.inet_pton(socket.AF_INET6, group) + struct.pack("=I", index)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    else:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        here = struct.pack("=4s4si", bytes(4), bytes(4), index)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + here[4:])
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("", 5353))
    opened.settimeout(5)
    return opened


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


RAW: dict[str, Callable[[str], bytes]] = {
    "udp": lambda mac: packets.ether(PEER_MAC, mac, packets.IPV4, packets.udp(VM4, 5, PEER4, 80)),
    "ipv6": lambda mac: packets.ether(PEER_MAC, mac, packets.IPV6, packets.udp(VM6, 5, PEER6, 80)),
    "tagged": lambda mac: packets.ether(
        PEER_MAC, mac, packets.IPV4, packets.udp(VM4, 5, PEER4, 80), tags=((0x8100, 7),)
    ),
    "other ethertype": lambda mac: packets.ether(PEER_MAC, mac, 0x88CC, b"lldp"),
    "tagged arp": lambda mac: packets.ether(
        PEER_MAC, mac, packets.ARP, packets.arp(1, mac, VM4, PEER4), tags=((0x8100, 7),)
    ),
    "a DHCP server": lambda mac: packets.ether(PEER_MAC, mac, packets.IPV4, packets.udp(VM4, 67, PEER4, 68)),
    "a DHCP client with an address": lambda mac: packets.ether(
        PEER_MAC, mac, packets.IPV4, packets.udp(VM4, 68, PEER4, 67)
    ),
}


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("what", RAW)
def test_raw_frames_do_not_get_around_the_groups(vm: FilteredVm, what: str, bypass: bool) -> None:
    vm.configure(vm.nic(rules=(ALL_IN, SecurityRule(1, OUT, Protocol.UDP, ports=((53, 53),)))))
    frame = RAW[what](vm.mac)
    with vm.packet_socket() as raw, vm.packet_socket(peer=True) as peer:
        raw.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, int(bypass))
        raw.setsockopt(socket.SOL_SOCKET, SO_MARK, 1)
        _try(raw, frame)
        raw.send(packets.ether(packets.BROADCAST, vm.mac, packets.ARP, packets.arp(1, vm.mac, VM4, PEER4)))
        for got in frames(peer, 5):
            assert got[:14] != frame[:14]
            if got[12:14] == b"\x08\x06":
                break
        else:
            raise AssertionError("the ARP request did not arrive")
    assert vm.hits()["out.raw"] == 1


def _try(raw: socket.socket, frame: bytes) -> None:
    with suppress(OSError):  # told at once that it was dropped
        raw.send(frame)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_dhcp_client_may_broadcast_raw_if_it_may_ask_at_all(vm: FilteredVm, allowed: bool) -> None:
    method = Method.DHCP if allowed else Method.STATIC
    vm.configure(vm.nic(rules=(), method=method, addresses=()))
    question = packets.udp("0.0.0.0", 68, "255.255.255.255", 67, packets.dhcp(1, vm.mac, kind=1))
    answer = packets.udp(PEER4, 67, VM4, 68, packets.dhcp(2, vm.mac, kind=2))
    with vm.packet_socket() as raw, vm.packet_socket(peer=True) as peer:
        _try(raw, packets.ether(packets.BROADCAST, vm.mac, packets.IPV4, question))
        raw.send(packets.ether(packets.BROADCAST, vm.mac, packets.ARP, packets.arp(1, vm.mac, "0.0.0.0", PEER4)))
        kinds = []
        for got in frames(peer, 5):
            kinds.append(got[12:14])
            if got[12:14] == b"\x08\x06":
                break
        assert (b"\x08\x00" in kinds) is allowed
        peer.send(packets.ether(vm.mac, PEER_MAC, packets.IPV4, answer))
        _until(lambda: vm.hits()["in.dropped" if not allowed else "in.dhcp"] > 0)


def test_what_the_ip_stack_sends_passes_the_guard(vm: FilteredVm) -> None:
    """Whole, in fragments, to many, and what the VM forwards."""
    rules = (SecurityRule(1, OUT, Protocol.UDP), SecurityRule(1, OUT, Protocol.ICMPV6))
    vm.configure(vm.nic(rules=rules))
    vm.route_everything()
    with vm.beside(partial(_bound, ("", 7777))) as peer:
        with vm.in_vm(partial(_bound, ("", 0))) as sending:
            for address in (PEER4, PEER6):
                for size in (1, 5000, 60000):
                    sending.sendto(bytes(size), (address if ":" in address else f"::ffff:{address}", 7777))
                    assert len(peer.recv(65535)) == size
        vm.in_vm(_forward)
        vm.in_vm(partial(_inject, packets.udp("10.50.0.1", 5, PEER4, 7777, b"forwarded")))
        assert peer.recv(64) == b"forwarded"
    with vm.packet_socket(peer=True) as wire:
        with vm.in_vm(partial(_member, "239.1.2.3")) as sending:
            sending.sendto(b"many", ("239.1.2.3", 7777))
        assert any(b"many" in frame for frame in frames(wire, 1))
    assert vm.hits()["out.raw"] == 0
    assert vm.hits()["out.group-1"] >= 4


def _bound(place: tuple[str, int]) -> socket.socket:
    opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.bind(place)
    opened.settimeout(5)
    return opened


def _forward() -> None:
    namespaces.sysctl("ipv4/ip_forward", "1")
    ip_here("link", "add", "inner", "type", "veth", "peer", "name", "outer")
    for name in ("inner", "outer"):
        ip_here("link", "set", name, "address", "02:00:00:00:00:50" if name == "inner" else "02:00:00:00:00:51", "up")
    ip_here("addr", "add", "10.50.0.254/24", "dev", "inner")


def _inject(packet: bytes) -> None:
    """As if it had come in by the other NIC."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as opened:
        opened.bind(("outer", 0))
        opened.send(packets.ether("02:00:00:00:00:50", "02:00:00:00:00:51", packets.IPV4, packet))


def test_an_old_kernel_gets_everything_but_the_guard(vm: FilteredVm) -> None:
    ruleset, _ = vm.rulesets(vm.nic(rules=()))
    assert ruleset is not None
    # A kind of chain that no kernel has, as one before 5.16 has none at egress.
    too_new = ruleset.text.replace('"type":"filter","hook":"prerouting"', '"type":"route","hook":"prerouting"')
    loaded = vm.in_vm(partial(kernel.load, replace(ruleset, text=too_new)))
    assert vm.in_vm(partial(kernel.fingerprint, ruleset.tables)) == loaded
    assert {"in.dropped", "out.dropped"} < set(vm.hits())
    assert "out.raw" not in vm.hits()


def test_whether_a_kernel_has_the_guard_is_tried_without_a_trace(vm: FilteredVm) -> None:
    sample = guard_of_loopback()
    too_new = replace(sample, text=sample.text.replace('"type":"filter"', '"type":"route"'))
    assert vm.in_vm(partial(kernel.takes, sample))
    assert not vm.in_vm(partial(kernel.takes, too_new))
    assert vm.in_vm(partial(kernel.fingerprint, sample.tables)) is None


def test_what_nft_does_not_take_changes_nothing(vm: FilteredVm) -> None:
    ruleset, _ = vm.rulesets(vm.nic(rules=()))
    assert ruleset is not None
    loaded = vm.in_vm(partial(kernel.load, ruleset))
    with pytest.raises(TransientError, match="nftables refuses the rules"):
        vm.in_vm(
            partial(
                kernel.load, replace(ruleset, text=ruleset.text.replace('"goto":{"target":"', '"goto":{"target":"no-'))
            )
        )
    assert vm.in_vm(partial(kernel.fingerprint, ruleset.tables)) == loaded


def test_counters_show_which_group_let_packets_through(vm: FilteredVm, server: socket.socket) -> None:
    rules = (
        SecurityRule(100, IN, Protocol.TCP, ports=((8080, 8080),), peers=((PEER4, PEER4),)),
        SecurityRule(101, IN, Protocol.UDP),
        ALL_OUT,
    )
    vm.configure(vm.nic(rules=rules))
    with vm.beside(_connect), server.accept()[0]:
        pass
    hits = vm.hits()
    assert (hits["in.group-100"], hits["in.group-101"]) == (1, 0)
    assert hits["in.established"] > 0


def test_packets_pass_as_fast_with_a_thousand_rules(vm: FilteredVm, capsys: pytest.CaptureFixture[str]) -> None:
    """No limit is asserted: the figures are for people."""
    with vm.beside(partial(_bound, ("", 7777))) as peer:
        figures = []
        for count in (1, 1000):
            many = tuple(
                SecurityRule(1, OUT, Protocol.UDP, ((1000, 1000 + n),), None, ((f"10.{n // 250}.{n % 250}.0",) * 2,))
                for n in range(count - 1)
            )
            here = SecurityRule(1, OUT, Protocol.UDP, ((7777, 7777),), None, ((PEER4, PEER4),))
            begin = time.monotonic()
            vm.configure(vm.nic(rules=(*many, here)))
            loaded = time.monotonic() - begin
            got: list[int] = []
            receiving = threading.Thread(target=_drain, args=(peer, got))
            receiving.start()
            begin = time.monotonic()
            with vm.in_vm(partial(_bound, ("", 0))) as sending:
                for _ in range(20_000):
                    sending.sendto(b"x", (f"::ffff:{PEER4}", 7777))
                took = time.monotonic() - begin
                sending.sendto(b"end", (f"::ffff:{PEER4}", 7777))
            receiving.join()
            figures.append(f"{count} rules: loaded in {loaded * 1000:.0f} ms, {20_000 / took:.0f} packets/s")
            assert got, "nothing arrived"
    with capsys.disabled():
        print("\n" + "\n".join(figures))


def _drain(opened: socket.socket, got: list[int]) -> None:
    try:
        while (data := opened.recv(16)) != b"end":
            got.append(len(data))
    except TimeoutError:
        pass  # the last one was lost
