"""Rules of libnftables-json(5) as the expressions that the kernel runs one after the other."""

import struct
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any

from onedock.nodeside.agent.firewall.attributes import attribute, nested
from onedock.nodeside.agent.firewall.operands import FIRST_REGISTER, Kind, Operand, expression, meta, operand, settable

AnonymousSet = Callable[[Kind, list[Any]], int]
"""Makes a set of some values for the rule alone; returns what the rule names it by."""

_EQUAL, _OTHER, _NOT_MORE, _NOT_LESS = 0, 1, 3, 5
_OPERATORS = {"==": _EQUAL, "!=": _OTHER, ">=": _NOT_LESS}
_VERDICT_REGISTER = 0
_VERDICTS = {"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}
_COUNTER = 1
_BYTES_LIMITED, _INVERTED = 1, 1


class Rule:
    """One rule while it is compiled."""

    def __init__(self, family: str, new_set: AnonymousSet) -> None:
        self._family = family
        self._new_set = new_set
        self._known: set[tuple[str, Any]] = set()
        """Keys of ``meta`` whose value an earlier condition has made sure of."""

    def compile(self, said: dict[str, Any]) -> Iterator[bytes]:
        """The kernel's expressions for one of the rule's. KeyError: it is not known here."""
        ((what, values),) = said.items()
        match what:
            case "match":
                yield from self._match(values["op"], values["left"], values["right"])
            case "mangle":
                kind, write = settable(values["key"])
                yield expression("immediate", attribute(1, FIRST_REGISTER), _value(2, kind.write(values["value"])))
                yield write(FIRST_REGISTER)
            case "counter":
                yield expression("objref", attribute(1, _COUNTER), attribute(2, values))
            case "limit":
                yield _limit(values)
            case _:
                yield _verdict(what, values["target"] if values else "")

    def _match(self, operator: str, left: dict[str, Any], right: Any) -> Iterator[bytes]:
        if "concat" in left or (isinstance(right, str) and right.startswith("@")):
            parts = [operand(one, self._family) for one in left.get("concat", [left])]
            yield from self._looked_up(parts, operator, attribute(1, right.removeprefix("@")))
            return
        (one,) = parts = [operand(left, self._family)]
        match right:
            case {"set": [*values]} if len(values) > 1:
                number = self._new_set(one.kind, values)
                yield from self._looked_up(parts, operator, attribute(1, "__set%d") + attribute(4, number))
            case {"set": [value]}:
                yield from self._compared(one, operator, value)
            case {"range": [first, last]}:
                yield from self._needed(one)
                yield one.load(FIRST_REGISTER)
                yield _compare(_NOT_LESS, one.kind.write(first))
                yield _compare(_NOT_MORE, one.kind.write(last))
            case [*flags]:
                yield from self._any_bit(one, flags)
            case _:
                yield from self._compared(one, operator, right)
                if operator == "==" and "meta" in left:
                    self._known.add((left["meta"]["key"], right))

    def _compared(self, one: Operand, operator: str, value: Any) -> Iterator[bytes]:
        yield from self._needed(one)
        yield one.load(FIRST_REGISTER)
        yield _compare(_OPERATORS[operator], one.kind.write(value))

    def _looked_up(self, parts: list[Operand], operator: str, which: bytes) -> Iterator[bytes]:
        for one in parts:
            yield from self._needed(one)
        register = FIRST_REGISTER
        for one in parts:
            yield one.load(register)
            register += -(-one.kind.size // 4)
        inverted = attribute(5, 1) if operator == "!=" else b""
        yield expression("lookup", which, attribute(2, FIRST_REGISTER), inverted)

    def _any_bit(self, one: Operand, flags: list[str]) -> Iterator[bytes]:
        """Of what has a bit for each state, one of these is set."""
        mask = bytes(one.kind.size)
        for flag in flags:
            mask = bytes(old | new for old, new in zip(mask, one.kind.write(flag), strict=True))
        both = attribute(1, FIRST_REGISTER) + attribute(2, FIRST_REGISTER) + attribute(3, len(mask))
        yield one.load(FIRST_REGISTER)
        yield expression("bitwise", both, _value(4, mask), _value(5, bytes(len(mask))))
        yield _compare(_OTHER, bytes(len(mask)))

    def _needed(self, one: Operand) -> Iterator[bytes]:
        for need in one.needs:
            if need not in self._known:
                self._known.add(need)
                yield from _made_sure(*need)


@cache
def _made_sure(key: str, value: int | str) -> tuple[bytes, bytes]:
    """Most rules begin with a few of these."""
    known = meta(key)
    return known.load(FIRST_REGISTER), _compare(_EQUAL, known.kind.write(value))


def _compare(operator: int, value: bytes) -> bytes:
    return expression("cmp", attribute(1, FIRST_REGISTER), attribute(2, operator), _value(3, value))


@lru_cache
def _verdict(what: str, target: str) -> bytes:
    code = attribute(1, struct.pack(">i", _VERDICTS[what]))
    verdict = nested(2, nested(2, code, attribute(2, target) if target else b""))
    return expression("immediate", attribute(1, _VERDICT_REGISTER), verdict)


def _value(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


def _limit(values: dict[str, Any]) -> bytes:
    """Of bytes per second."""
    return expression(
        "limit",
        attribute(1, values["rate"].to_bytes(8)),
        attribute(2, (1).to_bytes(8)),
        attribute(3, values["burst"]),
        attribute(4, _BYTES_LIMITED),
        attribute(5, _INVERTED if values["inv"] else 0),
    )
