"""Rules of security groups as elements of nftables sets. Pure.

Every rule is a box over some fields of a packet. Rules over the same fields share a set, so that the number of nftables
rules does not grow with theirs: a thousand rules are a thousand elements at most a dozen lookups deep.
"""

import socket
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from onedock.nodeside.agent.firewall.document import Expression, field, meta
from onedock.nodeside.agent.firewall.intervals import Box, Owned, Range, disjoint
from onedock.nodeside.agent.firewall.operands import packed
from onedock.nodeside.agent.firewall.words import in_words
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule

MOST_ELEMENTS = 65_536
"""Of one set, as ``ipset_maxelem`` of the stock driver: overlapping ranges may need many more elements than rules."""

_KEPT = 32
"""So many groups are remembered: VMs share them, and cutting a thousand rules takes its time."""

_IPV4_BYTES = 4
_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.IPSEC: 50}
_TYPES = {
    "proto": "inet_proto",
    "port": "inet_service",
    "icmp": "icmp_type",
    "icmp6": "icmpv6_type",
    "net4": "ipv4_addr",
    "net6": "ipv6_addr",
}


@dataclass(frozen=True, slots=True)
class Matches:
    """What a group lets through in one direction, as far as it is told by the same fields."""

    fields: tuple[str, ...]
    """Keys of ``_TYPES``, at least one."""
    boxes: tuple[tuple[Box, str], ...]
    """Disjoint; each with the words of the first rule that it is in, which is the one whose hits it counts."""

    @property
    def kind(self) -> list[str]:
        """Type of the set."""
        return [_TYPES[one] for one in self.fields]

    @property
    def flags(self) -> list[str]:
        """Of the set: without ranges it is a hash table, which is filled and searched faster."""
        return ["interval"] if any(first != last for box, _ in self.boxes for first, last in box) else []

    def key(self, direction: Direction) -> Expression:
        """What is looked up in the set: of the packet's two addresses, that of the other side."""
        parts = [_expression(one, direction) for one in self.fields]
        return {"concat": parts} if len(parts) > 1 else parts[0]

    def elements(self) -> list[Any]:
        """The elements of the set."""
        return [{"elem": {"val": self._element(box), "comment": words}} for box, words in self.boxes]

    def _element(self, box: Box) -> Any:
        parts = [_range(name, ends) for name, ends in zip(self.fields, box, strict=True)]
        return {"concat": parts} if len(parts) > 1 else parts[0]


@lru_cache(_KEPT)
def matches(rules: tuple[SecurityRule, ...]) -> tuple[Matches, ...]:
    """What the rules, all of one direction, let through; none of them may let everything through.

    Raises TerminalError when that is too much for the kernel.
    """
    boxes = defaultdict[tuple[str, ...], list[Owned]](list)
    for number, rule in enumerate(rules):
        for names, box in _boxes(rule):
            boxes[names].append((box, number))
    words = [in_words(rule) for rule in rules]
    return tuple(
        Matches(names, tuple((box, words[number]) for box, number in _cut(some)))
        for names, some in sorted(boxes.items())
    )


def _cut(boxes: Iterable[Owned]) -> tuple[Owned, ...]:
    cut = disjoint(boxes)
    if len(cut) > MOST_ELEMENTS:
        raise TerminalError(
            f"rules of a security group overlap so that {len(cut)} set elements would be needed,"
            f" more than {MOST_ELEMENTS}; use fewer distinct ranges"
        )
    return cut


def _boxes(rule: SecurityRule) -> Iterator[tuple[tuple[str, ...], Box]]:
    for net in _nets(rule.peers):
        match rule.protocol:
            case Protocol.ALL:
                parts = [*net]
            case Protocol.ICMP | Protocol.ICMPV6:
                name, other = ("icmp", "net6") if rule.protocol is Protocol.ICMP else ("icmp6", "net4")
                if net and net[0][0] == other:
                    continue
                kind = rule.icmp_type
                parts = [(name, (0, 255) if kind is None else (kind, kind)), *net]
            case _:
                number = _NUMBERS[rule.protocol]
                parts = [("proto", (number, number)), *net]
        for ports in rule.ports or (None,):
            whole = parts if ports is None else [*parts, ("port", ports)]
            yield tuple(name for name, _ in whole), tuple(ends for _, ends in whole)


def _nets(peers: tuple[tuple[str, str], ...]) -> Iterator[list[tuple[str, Range]]]:
    """Each range of peers, as a field or, without any, as none."""
    if not peers:
        yield []
    for first, last in peers:
        begin = packed(first)
        name = "net4" if len(begin) == _IPV4_BYTES else "net6"
        yield [(name, (int.from_bytes(begin), int.from_bytes(packed(last))))]


def _expression(name: str, direction: Direction) -> Expression:
    peer = "saddr" if direction is Direction.INBOUND else "daddr"
    match name:
        case "proto":
            return meta("l4proto")
        case "port":
            return field("th", "dport")
        case "icmp":
            return field("icmp", "type")
        case "icmp6":
            return field("icmpv6", "type")
        case "net4":
            return field("ip", peer)
        case _:
            return field("ip6", peer)


def _range(name: str, ends: Range) -> Any:
    values = [_value(name, end) for end in ends]
    return values[0] if ends[0] == ends[1] else {"range": values}


def _value(name: str, number: int) -> int | str:
    match name:
        case "net4":
            return socket.inet_ntop(socket.AF_INET, number.to_bytes(4))
        case "net6":
            return socket.inet_ntop(socket.AF_INET6, number.to_bytes(16))
        case _:
            return number
