"""Reader of OpenNebula's configuration files (``oned.conf``, ``monitord.conf``): attributes, and where each is.

A file is edited by its text: whatever is not an edited value keeps every byte. What oned's own reader takes
without a word (it skips characters that it does not know), or takes differently than it looks, is refused here:
an editor must not guess. Protocol reference 5.8, 10.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t\r]*")
_NAME = re.compile(r"[A-Za-z0-9_]+")
_QUOTED = re.compile(r'"(?:\\"|[^"])*"')
"""As long as it can be: a backslash before a quote escapes it, unless no other quote follows."""
_UNQUOTED = re.compile(r"[^=#\[\],\s]+")


class ConfError(Exception):
    """A file is not understood, or cannot be changed as wanted. The message names the line where there is one."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value; ``start`` and ``end`` enclose ``text``, without its quotes."""

    text: str
    start: int
    end: int
    quoted: bool


@dataclass(frozen=True, slots=True)
class Attribute:
    """``NAME = value`` or ``NAME = [ A = value, … ]``, names in upper case."""

    name: str
    line: int
    value: Value | None
    """None for a vector, and for a single attribute without value."""
    pairs: tuple[tuple[str, Value], ...] | None = None
    """None for a single attribute."""

    def get(self, name: str) -> str | None:
        """Text of a vector's value. ConfError when it is there twice: oned would take the first."""
        found = self.find(name)
        return None if found is None else found.text

    def find(self, name: str) -> Value | None:
        """Value of a vector. ConfError when it is there twice, or this is no vector."""
        if self.pairs is None:
            raise ConfError(f"line {self.line}: {self.name} is not of the form {self.name} = [ … ]; mend it first")
        found = [value for other, value in self.pairs if other == name]
        if len(found) > 1:
            raise ConfError(f"line {self.line}: {self.name} has {name} twice; remove one of them first")
        return found[0] if found else None


class Edit(NamedTuple):
    """Characters from ``start`` up to ``end`` become ``text``."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text after edits that do not overlap."""
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def parse(text: str) -> tuple[Attribute, ...]:
    """All attributes in order. Raises ConfError at the first thing that is not understood."""
    return tuple(_Reader(text).attributes())


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def attributes(self) -> Iterable[Attribute]:
        if (at := self._text.find("]]>")) >= 0:
            self._fail("]]> ends oned's reading; write the value without it", at)
        self._skip(_SPACE)
        while self._at < len(self._text):
            line = self._line(self._at)
            name = self._name()
            if self._next() == "[":
                yield Attribute(name, line, None, tuple(self._vector()))
            elif self._next() == "\n":
                yield Attribute(name, line, None)
            else:
                yield Attribute(name, line, self._value(name))
            self._skip(_SPACE)

    def _vector(self) -> Iterable[tuple[str, Value]]:
        opened = self._at
        self._at += 1
        self._skip(_SPACE)
        if self._next() == "]":
            self._at += 1
            return
        while True:
            if self._at == len(self._text):
                self._fail("the bracket that opens here is never closed; close it", opened)
            name = self._name()
            yield name, self._value(name)
            self._skip(_SPACE)
            end = self._next()
            if end not in {",", "]"}:
                what = "the bracket that opens here is never closed" if not end else f"found {self._here()}"
                self._fail(f"{what}; a comma or ] must follow each value", self._at if end else opened)
            self._at += 1
            if end == "]":
                return
            self._skip(_SPACE)

    def _name(self) -> str:
        """A name with its equals sign and the blanks around."""
        found = _NAME.match(self._text, self._at)
        if found is None:
            self._fail(f"expected a NAME, found {self._here()}; is a quote or bracket above it open or too much?")
        self._at = found.end()
        self._skip(_SPACE)
        if self._next() != "=":
            self._fail(f"{found[0][:40]} has no = after it; mend it first", found.start())
        self._at += 1
        self._skip(_BLANK)
        return found[0].upper()

    def _value(self, name: str) -> Value:
        start = self._at
        quoted = self._next() == '"'
        found = (_QUOTED if quoted else _UNQUOTED).match(self._text, start)
        if found is None:
            if quoted:
                self._fail("the quote that opens here is never closed; close it")
            self._fail(f"{name} has no value; write one, or take it out")
        self._at = found.end()
        if quoted and self._next() not in {"", " ", "\t", "\r", "\n", ",", "]", "#"}:
            self._fail(f"after the closing quote comes {self._here()}; mend it first")
        return Value(found[0][1:-1], start + 1, self._at - 1, True) if quoted else Value(found[0], *found.span(), False)

    def _skip(self, what: re.Pattern[str]) -> None:
        found = what.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _here(self) -> str:
        line = self._text[self._at :].partition("\n")[0].strip()
        return repr(line[:30]) if self._at < len(self._text) else "the end of the file"

    def _line(self, at: int) -> int:
        return self._text.count("\n", 0, at) + 1

    def _fail(self, why: str, at: int | None = None) -> NoReturn:
        raise ConfError(f"line {self._line(self._at if at is None else at)}: {why}")
