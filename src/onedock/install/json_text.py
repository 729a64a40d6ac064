"""Changes one member of a JSON text: all other bytes stay, however they were laid out by hand."""

import json
from dataclasses import dataclass
from typing import Any

_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


class JsonTextError(Exception):
    """Not a JSON object, or one with a name twice. The message names the line."""


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    start: int
    """Of its name."""
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class _Object:
    start: int
    """Behind its opening brace."""
    end: int
    """Of its closing brace."""
    members: tuple[_Member, ...]

    def find(self, name: str) -> _Member | None:
        return next((member for member in self.members if member.name == name), None)


def load(text: str) -> dict[str, Any]:
    """The object that a text is. Raises JsonTextError."""
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
    except ValueError as error:
        raise JsonTextError(f"not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise JsonTextError("not a JSON object ({ … })")
    return value


def set_member(text: str, path: tuple[str, ...], value: Any) -> str:
    """The text with a member made or replaced; parents that are missing, or no objects, are made. JsonTextError."""
    *parents, name = path
    parent = _object(text, tuple(parents))
    if parent is None:
        return set_member(text, tuple(parents), {name: value})
    member = parent.find(name)
    if member is None:
        return _insert(text, parent, name, value, len(parents))
    if json.loads(text[member.value : member.end]) == value:
        return text
    return text[: member.value] + _dump(value, text, parent, len(path)) + text[member.end :]


def remove_member(text: str, path: tuple[str, ...]) -> str:
    """The text without a member; the same text when there is none. Raises JsonTextError."""
    parent = _object(text, path[:-1])
    member = parent.find(path[-1]) if parent else None
    if parent is None or member is None:
        return text
    number = parent.members.index(member)
    if number:
        return text[: parent.members[number - 1].end] + text[member.end :]
    if len(parent.members) > 1:
        return text[: member.start] + text[parent.members[1].start :]
    return text[: parent.start] + text[parent.end :]


def _insert(text: str, parent: _Object, name: str, value: Any, depth: int) -> str:
    written = f"{json.dumps(name)}: {_dump(value, text, parent, depth + 1)}"
    if parent.members:
        last = parent.members[-1].end
        return f"{text[:last]},{_gap(text, parent, depth + 1)}{written}{text[last:]}"
    inside = f"{_gap(text, parent, depth + 1)}{written}{_gap(text, parent, depth)}"
    return text[: parent.start] + inside + text[parent.end :]


def _gap(text: str, parent: _Object, depth: int) -> str:
    """What is between two members of an object at this depth."""
    if parent.members:
        first = text[parent.start : parent.members[0].start]
        return first if first.strip(_SPACE) == "" and first else " "
    return "\n" + _unit(text) * depth


def _dump(value: Any, text: str, parent: _Object, depth: int) -> str:
    gap = _gap(text, parent, depth)
    if "\n" not in gap:
        return json.dumps(value)
    newline = "\r\n" if "\r\n" in gap else "\n"
    return json.dumps(value, indent=_unit(text)).replace("\n", newline + gap.rpartition("\n")[2])


def _unit(text: str) -> str:
    """One step of indentation, as the text's own first member has it."""
    top = _object(text, ())
    first = text[top.start : top.members[0].start] if top and top.members else ""
    return first.rpartition("\n")[2] if "\n" in first and not first.endswith("\n") else "  "


def _object(text: str, path: tuple[str, ...]) -> _Object | None:
    """Where the object at ``path`` is, None when there is none."""
    load(text)
    at = len(text) - len(text.lstrip(_SPACE))
    for name in path:
        found = _scan(text, at).find(name) if text[at] == "{" else None
        if found is None:
            return None
        at = found.value
    return _scan(text, at) if text[at] == "{" else None


def _scan(text: str, at: int) -> _Object:
    """The members of the object that begins at ``at``; the text is valid."""
    start = at + 1
    members = []
    at = _skip(text, start)
    while text[at] != "}":
        name, end = _DECODER.raw_decode(text, at)
        value = _skip(text, _skip(text, end) + 1)
        _, end = _DECODER.raw_decode(text, value)
        members.append(_Member(name, at, value, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return _Object(start, at, tuple(members))


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise JsonTextError(f"{name!r} is there twice; remove one of them first")
    return dict(pairs)
