"""Where in a settings file a setting is, and where an effective value comes from."""

import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from onedock.config.settings import NodeSettings, Settings

_TABLE = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def line_of(text: str, path: Sequence[str]) -> int | None:
    """Line of the longest part of ``path`` that the file sets, None when it sets nothing of it."""
    best: tuple[int, int] | None = None
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if found := _TABLE.match(line):
            table = names = _parts(found[1])
        elif found := _KEY.match(line):
            names = (*table, *_parts(found[1]))
        else:
            continue
        if names == tuple(path[: len(names)]) and (best is None or len(names) > best[0]):
            best = (len(names), number)
    return best[1] if best else None


def suggestion(path: Sequence[str]) -> str:
    """``did you mean …?`` for a name that does not exist, or nothing."""
    names = list(_names(path[:-1]))
    near = difflib.get_close_matches(path[-1], names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are: {', '.join(sorted(names))}" if names else ""


def source_of(path: Sequence[str], file: dict[str, Any], environment: dict[str, str]) -> str:
    """Where a setting has its value from: ``default``, ``file``, or the name of a variable of the environment."""
    variable = f"ONEDOCK_{'__'.join(path)}".upper()
    for name in environment:
        if name.upper() == variable:
            return name
    value: Any = file
    for part in path:
        if not isinstance(value, dict) or part not in value:
            return "default"
        value = value[part]
    return "file"


def parse(text: str) -> dict[str, Any]:
    """The file's values; empty for one that is no TOML, which the settings themselves report."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _names(path: Sequence[str]) -> Iterator[str]:
    """Names that may stand in a table."""
    if not path:
        yield from Settings.model_fields
    elif path[0] == "nodes":
        yield from NodeSettings.model_fields if len(path) > 1 else ()
    elif path[0] in Settings.model_fields:
        model = Settings.model_fields[path[0]].annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from model.model_fields
