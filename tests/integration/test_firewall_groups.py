"""Security groups in the real kernel: connections and flows while the rules change, and what the counters say."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from tests.support import packets, processes
from tests.support.filtered import PEER4, PEER6, PEER_MAC, FilteredVm
from tests.support.sockets import bound, member

from onedock.nodeside.agent.firewall import kernel
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule, Spoofing

pytestmark = pytest.mark.root

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
ALL_OUT = SecurityRule(0, OUT, Protocol.ALL)
VM4, VM6 = "10.9.0.1", "fd09::1"


@pytest.fixture
def vm() -> Iterator[FilteredVm]:
    with FilteredVm(230_010) as made:
        yield made


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
    vm.silence_neighbour()
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
    with vm.beside(partial(bound, ("", 7777))) as peer, vm.in_vm(partial(bound, ("", 0))) as sending:
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
    with vm.in_vm(partial(member, group)) as listening, vm.in_vm(partial(member, group)) as sending:
        sending.sendto(b"own", (group, 5353))
        assert listening.recv(16) == b"own"
    before = vm.hits()["in.dropped"]
    source = PEER6 if ":" in group else PEER4
    with vm.packet_socket(peer=True) as peer:
        peer.send(packets.ether(vm.mac, PEER_MAC, packets.kind_of(source), packets.udp(source, 1, group, 5353)))
    processes.wait_until(lambda: vm.hits()["in.dropped"] > before, within=10, what="it is dropped")


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
    with vm.beside(partial(bound, ("", 7777))) as peer:
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
            with vm.in_vm(partial(bound, ("", 0))) as sending:
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
