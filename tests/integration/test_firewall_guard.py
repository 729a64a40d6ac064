"""Raw frames do not get around the security groups of a real kernel; what its IP stack sends is not held up."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from tests.support import packets, processes
from tests.support.filtered import PEER4, PEER6, PEER_MAC, FilteredVm, frames, ip
from tests.support.sockets import bound, member

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.firewall import kernel
from onedock.nodeside.agent.firewall.ruleset import guard_of_loopback
from onedock.reconcilers.nic_parts import Direction, Method, Protocol, SecurityRule

pytestmark = pytest.mark.root

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
ALL_IN = SecurityRule(0, IN, Protocol.ALL)
VM4, VM6 = "10.9.0.1", "fd09::1"
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
SO_MARK = 36


@pytest.fixture
def vm() -> Iterator[FilteredVm]:
    with FilteredVm(230_012) as made:
        yield made


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
        counter = "in.dhcp" if allowed else "in.dropped"
        processes.wait_until(lambda: vm.hits()[counter] > 0, within=10, what=f"{counter} counts the answer")


def test_what_the_ip_stack_sends_passes_the_guard(vm: FilteredVm) -> None:
    """Whole, in fragments, to many, and what the VM forwards."""
    rules = (SecurityRule(1, OUT, Protocol.UDP), SecurityRule(1, OUT, Protocol.ICMPV6))
    vm.configure(vm.nic(rules=rules))
    vm.route_everything()
    with vm.beside(partial(bound, ("", 7777))) as peer:
        with vm.in_vm(partial(bound, ("", 0))) as sending:
            for address in (PEER4, PEER6):
                for size in (1, 5000, 60000):
                    sending.sendto(bytes(size), (address if ":" in address else f"::ffff:{address}", 7777))
                    assert len(peer.recv(65535)) == size
        vm.in_vm(_forward)
        vm.in_vm(partial(_inject, packets.udp("10.50.0.1", 5, PEER4, 7777, b"forwarded")))
        assert peer.recv(64) == b"forwarded"
    with vm.packet_socket(peer=True) as wire:
        with vm.in_vm(partial(member, "239.1.2.3")) as sending:
            sending.sendto(b"many", ("239.1.2.3", 7777))
        assert any(b"many" in frame for frame in frames(wire, 1))
    assert vm.hits()["out.raw"] == 0
    assert vm.hits()["out.group-1"] >= 4


def _forward() -> None:
    namespaces.sysctl("ipv4/ip_forward", "1")
    ip("link", "add", "inner", "type", "veth", "peer", "name", "outer")
    for name in ("inner", "outer"):
        ip("link", "set", name, "address", "02:00:00:00:00:50" if name == "inner" else "02:00:00:00:00:51", "up")
    ip("addr", "add", "10.50.0.254/24", "dev", "inner")


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
