"""Every rule that a user has written counts what it let through, and goes on counting when others change."""

import socket
from collections.abc import Iterator
from functools import partial

import pytest
from tests.support import processes
from tests.support.filtered import PEER4, FilteredVm

from onedock.nodeside.agent.firewall import kernel
from onedock.nodeside.agent.firewall.hits import Hits
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule

pytestmark = pytest.mark.root

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
TABLES = (("inet", "onedock"), ("netdev", "onedock"))
ALL_OUT = SecurityRule(0, OUT, Protocol.ALL)
WEB = SecurityRule(100, IN, Protocol.UDP, ports=((8080, 8080),), peers=((PEER4, PEER4),))
MANY = SecurityRule(100, IN, Protocol.UDP, ports=((8000, 9000),))
HALVES = (
    SecurityRule(7, IN, Protocol.ALL, peers=(("10.9.0.0", "10.9.0.1"),)),
    SecurityRule(7, IN, Protocol.ALL, peers=(("10.9.0.2", "10.9.0.2"), ("10.9.0.9", "10.9.0.12"))),
    SecurityRule(7, IN, Protocol.ALL, peers=(("10.9.0.3", "10.9.0.3"),)),
)


@pytest.fixture
def vm() -> Iterator[FilteredVm]:
    with FilteredVm(230_060) as ready:
        yield ready


def _send(port: int, times: int) -> None:
    """Each from a socket of its own, so that each is the first packet of a flow."""
    for _ in range(times):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.sendto(b"1234", ("10.9.0.1", port))


def _rules(vm: FilteredVm) -> dict[str, int]:
    hits: tuple[Hits, ...] = vm.in_vm(partial(kernel.counters, TABLES))
    return {f"{hit.rule} {hit.words}": hit.packets for hit in hits if hit.words}


def _expect(vm: FilteredVm, rules: dict[str, int]) -> None:
    """The packets are on their way for a moment."""
    processes.wait_until(lambda: _rules(vm) == rules, within=10, what=f"the rules count {rules}")


def test_the_first_rule_that_describes_a_packet_counts_it(vm: FilteredVm) -> None:
    vm.configure(vm.nic(rules=(WEB, MANY, ALL_OUT)))
    vm.beside(partial(_send, 8080, 2))
    vm.beside(partial(_send, 8081, 3))
    vm.beside(partial(_send, 7999, 4))
    _expect(vm, {f"in.group-100 udp 8080 from {PEER4}": 2, "in.group-100 udp 8000-9000 from anybody": 3})
    processes.wait_until(lambda: vm.hits()["in.dropped"] >= 4, within=10, what="what no rule describes is dropped")


def test_neighbouring_ranges_are_told_apart(vm: FilteredVm) -> None:
    vm.configure(vm.nic(rules=(*HALVES, ALL_OUT)))
    vm.beside(partial(_send, 8080, 5))
    second = "in.group-7 all from 10.9.0.2, 10.9.0.9-10.9.0.12"
    first, third = "in.group-7 all from 10.9.0.0/31", "in.group-7 all from 10.9.0.3"
    _expect(vm, {first: 0, second: 5, third: 0})


def test_what_was_counted_survives_an_update(vm: FilteredVm) -> None:
    vm.configure(vm.nic(rules=(WEB, MANY, ALL_OUT)))
    vm.beside(partial(_send, 8080, 2))
    vm.beside(partial(_send, 8500, 3))
    many, few = "in.group-100 udp 8000-9000 from anybody", "in.group-100 udp 8400-8600 from anybody"
    web = f"in.group-100 udp 8080 from {PEER4}"
    _expect(vm, {web: 2, many: 3})
    before = vm.in_vm(partial(kernel.fingerprint, TABLES))
    vm.beside(partial(_send, 8500, 1))
    vm.beside(partial(_send, 7000, 1))
    _expect(vm, {web: 2, many: 4})
    processes.wait_until(lambda: vm.hits()["in.dropped"] >= 1, within=10, what="one is dropped")
    assert vm.in_vm(partial(kernel.fingerprint, TABLES)) == before, "what is counted is no change"
    # One rule goes, one comes, and the range is cut otherwise now.
    inner = SecurityRule(100, IN, Protocol.UDP, ports=((8400, 8600),))
    vm.configure(vm.nic(rules=(inner, MANY, ALL_OUT)))
    assert vm.in_vm(partial(kernel.fingerprint, TABLES)) != before
    _expect(vm, {many: 4, few: 0})
    assert vm.hits()["in.dropped"] >= 1
    vm.beside(partial(_send, 8500, 2))
    vm.beside(partial(_send, 8999, 1))
    _expect(vm, {many: 5, few: 2})
