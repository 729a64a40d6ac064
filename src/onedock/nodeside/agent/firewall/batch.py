"""Commands of libnftables-json(5), as far as the rules here use them, as messages of one transaction of the kernel's.

``nft`` would do the same, but reads what the whole namespace has before, and waits for the kernel to free memory after.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from onedock.nodeside.agent.firewall.attributes import attribute, listed, nested
from onedock.nodeside.agent.firewall.expressions import Rule
from onedock.nodeside.agent.firewall.operands import SET_KINDS, Kind

_NEW = {"table": 0, "chain": 3, "rule": 6, "set": 9, "elements": 12, "counter": 18}
_DELETE = {"table": 2, "chain": 5, "set": 11, "counter": 20}
_CREATE, _APPEND = 0x400, 0x800

_HOOKS = {"ingress": 0, "egress": 1, "prerouting": 0, "postrouting": 4}
_ACCEPT = 1
_COUNTER = 1

_ANONYMOUS, _CONSTANT, _INTERVAL, _CONCATENATED = 0x1, 0x2, 0x4, 0x80
_TYPE_BITS = 6
_END_OF_INTERVAL = 1
_LITTLE, _BIG = 1, 2
_ELEMENTS_AT_ONCE = 256
"""An attribute has less than 64 KiB."""


@dataclass(frozen=True, slots=True)
class Message:
    """One change, without netlink's header."""

    kind: int
    flags: int
    family: str
    body: bytes
    about: str
    """For errors."""


def messages(commands: Iterable[dict[str, Any]]) -> Iterator[Message]:
    """The changes, in order. KeyError: something is not known here."""
    numbers = count(1)
    for command in commands:
        ((verb, said),) = command.items()
        ((what, values),) = said.items()
        about = f"{verb} {what} {values.get('name') or values.get('chain')}"
        family = values["family"]
        if verb == "delete":
            yield Message(_DELETE[what], 0, family, _place(what, values), about)
            continue
        match what:
            case "rule":
                sets: list[Message] = []
                body = _rule(values, sets, numbers, about)
                yield from sets
                yield Message(_NEW[what], _CREATE | _APPEND, family, body, about)
            case "set":
                kinds = [SET_KINDS[one] for one in _listed(values["type"])]
                flags = _INTERVAL if "interval" in values.get("flags", ()) else 0
                elements = _elements(kinds, values.get("elem", []), interval=bool(flags))
                yield from _set(values, kinds, flags, elements, next(numbers), about)
            case "table" | "chain" | "counter":
                yield Message(_NEW[what], _CREATE, family, _place(what, values) + _more(what, values), about)


def _place(what: str, values: dict[str, Any]) -> bytes:
    """The table, and what of it."""
    if what == "table":
        return attribute(1, values["name"])
    table = attribute(1, values["table"])
    match what:
        case "chain":
            return table + attribute(3, values["name"])
        case "counter":
            return table + attribute(2, values["name"]) + attribute(3, _COUNTER)
        case _:
            return table + attribute(2, values["name"])


def _more(what: str, values: dict[str, Any]) -> bytes:
    if what == "table":
        return attribute(2, 0)  # which also puts a table in force that somebody has made dormant
    if what == "counter":
        return nested(4, _count(values))
    if what == "chain" and "hook" in values:
        hook = attribute(1, _HOOKS[values["hook"]]) + attribute(2, struct.pack(">i", values["prio"]))
        device = attribute(3, values["dev"]) if "dev" in values else b""
        return nested(4, hook, device) + attribute(5, _ACCEPT) + attribute(7, values["type"])
    return b""


def _count(values: dict[str, Any]) -> bytes:
    return b"".join(
        attribute(number, values.get(name, 0).to_bytes(8)) for number, name in ((1, "bytes"), (2, "packets"))
    )


def _rule(values: dict[str, Any], sets: list[Message], numbers: Iterator[int], about: str) -> bytes:
    def new_set(kind: Kind, members: list[Any]) -> int:
        number = next(numbers)
        elements = [_key(1, kind.write(one)) for one in members]
        of_rule = {"family": values["family"], "table": values["table"], "name": "__set%d"}
        sets.extend(_set(of_rule, [kind], _ANONYMOUS | _CONSTANT, [(one,) for one in elements], number, about))
        return number

    rule = Rule(values["family"], new_set)
    expressions = [(one,) for said in values["expr"] for one in rule.compile(said)]
    return attribute(1, values["table"]) + attribute(2, values["chain"]) + listed(4, expressions)


def _set(
    values: dict[str, Any],
    kinds: list[Kind],
    flags: int,
    elements: list[tuple[bytes, ...]],
    number: int,
    about: str,
) -> Iterator[Message]:
    place, family = _place("set", values), values["family"]
    description = attribute(1, len(elements)) if flags & _CONSTANT else b""
    key_type = 0
    for kind in kinds:
        key_type = key_type << _TYPE_BITS | kind.number
    if len(kinds) > 1 and flags & _INTERVAL:
        flags |= _CONCATENATED
        description += nested(2, *(nested(1, attribute(1, kind.size)) for kind in kinds))
    key = attribute(4, key_type) + attribute(5, sum(-(-kind.size // 4) * 4 for kind in kinds))
    if len(kinds) == 1:
        key = attribute(4, key_type) + attribute(5, kinds[0].size)
    order = bytes([0, 4]) + struct.pack("=I", _BIG if kinds[0].in_network_order else _LITTLE)
    more = [attribute(3, flags), key, nested(9, description), attribute(10, number), attribute(13, order)]
    if "stmt" in values:
        more.append(nested(17, attribute(1, "counter"), nested(2, _count({}))))
    yield Message(_NEW["set"], _CREATE, family, place + b"".join(more), about)
    for first in range(0, len(elements), _ELEMENTS_AT_ONCE):
        some = elements[first : first + _ELEMENTS_AT_ONCE]
        yield Message(_NEW["elements"], _CREATE, family, place + attribute(4, number) + listed(3, some), about)


def _elements(kinds: list[Kind], members: list[Any], *, interval: bool) -> list[tuple[bytes, ...]]:
    """Keys, with their ends where a set has ranges, and what else the elements have."""
    split = [member["elem"] if isinstance(member, dict) and "elem" in member else {"val": member} for member in members]
    if len(kinds) > 1:
        return [(*_concatenated(kinds, one["val"]["concat"], interval=interval), _attached(one)) for one in split]
    (kind,) = kinds
    if not interval:
        return [(_key(1, kind.write(one["val"])), _attached(one)) for one in split]
    return list(_tree(kind.size, sorted((*_ends(kind, one["val"]), _attached(one)) for one in split)))


def _attached(element: dict[str, Any]) -> bytes:
    """A comment, and what its counter begins with."""
    attached = b""
    if "comment" in element:
        comment = element["comment"].encode() + b"\0"
        attached += attribute(6, bytes([0, len(comment)]) + comment)
    if "counter" in element:
        attached += nested(7, attribute(1, "counter"), nested(2, _count(element["counter"])))
    return attached


def _concatenated(kinds: list[Kind], parts: list[Any], *, interval: bool) -> tuple[bytes, ...]:
    ends = [_ends(kind, part) for kind, part in zip(kinds, parts, strict=True)]
    first, last = (b"".join(end[side] + bytes(-len(end[side]) % 4) for end in ends) for side in (0, 1))
    return (_key(1, first), _key(10, last)) if interval else (_key(1, first),)


def _tree(size: int, ranges: list[tuple[bytes, bytes, bytes]]) -> Iterator[tuple[bytes, ...]]:
    """Without concatenation, a range is its first value, and as another element the one after its last."""
    for first, last, attached in ranges:
        yield _key(1, first), attached
        after = int.from_bytes(last) + 1
        if after < 256**size:
            yield _key(1, after.to_bytes(size)), attribute(3, _END_OF_INTERVAL)


def _ends(kind: Kind, said: Any) -> tuple[bytes, bytes]:
    first, last = said["range"] if isinstance(said, dict) else (said, said)
    return kind.write(first), kind.write(last)


def _key(which: int, value: bytes) -> bytes:
    return nested(which, attribute(1, value))


def _listed(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types
