"""Every rule that a user has written counts what it let through, and goes on counting when others change."""

import socket
from collections.abc import Iterator
from functools import partial

import pytest
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


def test_the_first_rule_that_describes_a_packet_counts_it(vm: FilteredVm) -> None:
    vm.configure(vm.nic(rules=(WEB, MANY, ALL_OUT)))
    vm.beside(partial(_send, 8080, 2))
    vm.beside(partial(_send, 8081, 3))
    vm.beside(partial(_send, 7999, 4))
    assert _rules(vm) == {
        f"in.group-100 udp 8080 from {PEER4}": 2,
        "in.group-100 udp 8000-9000 from anybody": 3,
    }
    assert vm.hits()["in.dropped"] == 4


def test_neighbouring_ranges_are_told_apart(vm: FilteredVm) -> None:
    vm.configure(vm.nic(rules=(*HALVES, ALL_OUT)))
    vm.beside(partial(_send, 8080, 5))
    second = "in.group-7 all from 10.9.0.2, 10.9.0.9-10.9.0.12"
    assert {rule: hits for rule, hits in _rules(vm).items() if hits} == {second: 5}
    assert len(_rules(vm)) == 3


def test_what_was_counted_survives_an_update(vm: FilteredVm) -> None:
    vm.configure(vm.nic(rules=(WEB, MANY, ALL_OUT)))
    vm.beside(partial(_send, 8080, 2))
    vm.beside(partial(_send, 8500, 3))
    before = vm.in_vm(partial(kernel.fingerprint, TABLES))
    vm.beside(partial(_send, 8500, 1))
    assert vm.in_vm(partial(kernel.fingerprint, TABLES)) == before, "what is counted is no change"
    vm.beside(partial(_send, 7000, 1))
    # One rule goes, one comes, and the range is cut otherwise now.
    inner = SecurityRule(100, IN, Protocol.UDP, ports=((8400, 8600),))
    vm.configure(vm.nic(rules=(inner, MANY, ALL_OUT)))
    assert vm.in_vm(partial(kernel.fingerprint, TABLES)) != before
    many, few = "in.group-100 udp 8000-9000 from anybody", "in.group-100 udp 8400-8600 from anybody"
    assert _rules(vm) == {many: 4, few: 0}
    assert vm.hits()["in.dropped"] == 1
    vm.beside(partial(_send, 8500, 2))
    vm.beside(partial(_send, 8999, 1))
    assert _rules(vm) == {many: 5, few: 2}
