"""Counters of rules: what the kernel says of them, and how they go on when rules are replaced. Pure.

What a user has written is counted by the elements of sets, whose comment is the rule; all else by counters with names.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from onedock.nodeside.agent.attributes import attributes

# Attributes of linux/netfilter/nf_tables.h.
_OBJECT_NAME, _OBJECT_DATA, _BYTES, _PACKETS = 2, 4, 1, 2
_SET = re.compile(r"(?P<way>in|out)-(?P<nic>eth[0-9]+)-(?P<group>[0-9]+)-")
_USER_DATA, _EXPRESSION = 6, 7
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_COUNTER = b"counter\0"


@dataclass(frozen=True, slots=True)
class Hits:
    """A counter: packets since the NIC has the rule."""

    nic: str
    """``eth0`` for what the VM's namespace counts, ``one-7-0`` for the node's side."""
    rule: str
    """``in.group-100``, ``out.dropped``, ``mac``…"""
    packets: int
    bytes: int
    words: str = ""
    """Which rule of the group."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What is counted."""
        return self.nic, self.rule, self.words


def of_counter(data: bytes) -> Hits:
    """A counter that has a name."""
    values = attributes(data)
    return Hits(*_named(values[_OBJECT_NAME].rstrip(b"\0").decode()), *_counts(values[_OBJECT_DATA]))


def of_elements(name: str, elements: Iterable[bytes]) -> list[Hits]:
    """The rules in a set of a group; an element may be a part of its rule only."""
    if (group := _of_group(name)) is None:
        return []
    packets, octets = Counter[bytes](), Counter[bytes]()
    for element in elements:
        values = attributes(element)
        expression = attributes(values.get(_EXPRESSION, b""))
        if _USER_DATA in values and expression.get(_EXPRESSION_NAME) == _COUNTER:  # else it is the end of a range
            comment = values[_USER_DATA]
            counts = _counts(expression[_EXPRESSION_DATA])
            packets[comment] += counts[0]
            octets[comment] += counts[1]
    # Before the text there are its type, a comment's, and its length.
    return [Hits(*group, packets[one], octets[one], one[2:].rstrip(b"\0").decode(errors="replace")) for one in packets]


def together(hits: Iterable[Hits]) -> tuple[Hits, ...]:
    """Each rule once, also when its elements are in several sets."""
    found: dict[tuple[str, str, str], Hits] = {}
    for one in hits:
        found[one.key] = _sum(found[one.key], one) if one.key in found else one
    return tuple(found.values())


def go_on(commands: list[dict[str, Any]], hits: Iterable[Hits]) -> None:
    """Let counters and rules that are added begin with what they had counted; a rule in its first element."""
    before = {hit.key: {"packets": hit.packets, "bytes": hit.bytes} for hit in hits if hit.packets}
    for added in (command["add"] for command in commands if before and "add" in command):
        if counter := added.get("counter"):
            counter.update(before.pop((*_named(counter["name"]), ""), {}))
        elif (members := added.get("set")) and (group := _of_group(members["name"])):
            for element in members["elem"]:
                if counted := before.pop((*group, element["elem"]["comment"]), None):
                    element["elem"]["counter"] = counted


def _named(counter: str) -> tuple[str, str]:
    nic, _, rule = counter.partition(".")
    return nic, rule


def _of_group(name: str) -> tuple[str, str] | None:
    """NIC and rule by the name of a set, such as ``in-eth0-100-proto-port``; None: it is not a group's."""
    found = _SET.match(name)
    return (found["nic"], f"{found['way']}.group-{found['group']}") if found else None


def _counts(data: bytes) -> tuple[int, int]:
    counts = attributes(data)
    return int.from_bytes(counts[_PACKETS]), int.from_bytes(counts[_BYTES])


def _sum(one: Hits, other: Hits) -> Hits:
    return replace(one, packets=one.packets + other.packets, bytes=one.bytes + other.bytes)
