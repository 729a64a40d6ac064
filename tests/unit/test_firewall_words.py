"""Rules in words, and what they have counted when they are written again."""

from dataclasses import replace
from typing import Any

import pytest

from onedock.nodeside.agent.firewall.hits import Hits, go_on, together
from onedock.nodeside.agent.firewall.words import MOST, in_words
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule

WEB = SecurityRule(
    100, Direction.INBOUND, Protocol.TCP, ports=((22, 22), (8000, 8080)), peers=(("10.0.0.0", "10.0.0.255"),)
)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (WEB, "tcp 22,8000-8080 from 10.0.0.0/24"),
        (replace(WEB, direction=Direction.OUTBOUND, ports=()), "tcp to 10.0.0.0/24"),
        (replace(WEB, ports=(), protocol=Protocol.ALL, peers=()), "all from anybody"),
        (replace(WEB, ports=(), protocol=Protocol.IPSEC, peers=(("fd00::1", "fd00::1"),)), "esp from fd00::1"),
        (SecurityRule(1, Direction.INBOUND, Protocol.ICMPV6, icmp_type=128), "icmpv6 type 128 from anybody"),
        (
            SecurityRule(1, Direction.OUTBOUND, Protocol.UDP, peers=(("fd00::", "fd00::f"), ("10.0.0.1", "10.0.0.4"))),
            "udp to fd00::/124, 10.0.0.1-10.0.0.4",
        ),
        (
            SecurityRule(1, Direction.INBOUND, Protocol.ALL, peers=(("0.0.0.0", "255.255.255.255"),)),
            "all from 0.0.0.0/0",
        ),
    ],
)
def test_a_rule_in_words(rule: SecurityRule, words: str) -> None:
    assert in_words(rule) == words


def test_long_words_are_cut_and_still_differ() -> None:
    many = tuple((number, number) for number in range(1000, 2000, 2))
    found = {in_words(replace(WEB, ports=(*many, (last, last)))) for last in (5000, 5001)}
    assert len(found) == 2
    assert all(len(words) == MOST and words.startswith("tcp 1000,1002,") for words in found)


def _commands() -> list[dict[str, Any]]:
    elements = [{"elem": {"val": port, "comment": words}} for port, words in ((1, "one"), (2, "two"), (3, "two"))]
    return [
        {"add": {"table": {"family": "inet", "name": "onedock"}}},
        {"add": {"counter": {"name": "eth0.in.dropped"}}},
        {"delete": {"counter": {"name": "eth0.in.own"}}},
        {"add": {"set": {"name": "in-eth0-100-proto-port", "elem": elements}}},
        {"add": {"set": {"name": "another"}}},
    ]


def test_counters_go_on_once() -> None:
    commands = _commands()
    before = [
        Hits("eth0", "in.dropped", 3, 30),
        Hits("eth0", "in.own", 4, 40),
        Hits("eth0", "in.group-100", 5, 50, "two"),
        Hits("eth0", "in.group-101", 6, 60, "one"),
        Hits("eth0", "in.group-100", 7, 70, "gone"),
    ]
    go_on(commands, before)
    assert commands[1]["add"]["counter"] == {"name": "eth0.in.dropped", "packets": 3, "bytes": 30}
    counted = [one["elem"].get("counter") for one in commands[3]["add"]["set"]["elem"]]
    assert counted == [None, {"packets": 5, "bytes": 50}, None]
    untouched = _commands()
    go_on(untouched, [])
    assert untouched == _commands()


def test_a_rule_in_several_sets_is_one() -> None:
    parts = [Hits("eth0", "in.group-1", 1, 10, "a"), Hits("eth0", "in.group-1", 0, 0, "b")]
    assert together([*parts, *parts]) == (Hits("eth0", "in.group-1", 2, 20, "a"), parts[1])
