"""The part of a configuration file that the installer owns: a marked block, and entries in lists outside of it.

The block says itself which entries of lists were added with it, so that no more than those are taken back.
"""

import re
from dataclasses import dataclass

from onedock.install.template_syntax import ConfError

_BEGIN, _END = "# BEGIN ONEDock", "# END ONEDock"
_NOTE = "written by `onedock install frontend`; changes between these two lines do not last"
_UNENDED = "the line above had no end"
_LISTS = "# in lists: "
_PATTERN = re.compile(
    rf"^{_BEGIN}(?P<note>[^\n]*?)(?P<newline>\r?\n)(?:{_LISTS}(?P<lists>[^\r\n]*)\r?\n)?"
    rf"(?P<body>(?:.*\n)*?){_END}[ \t\r]*(?:\n|\Z)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """What is between the markers, and what belongs to it."""

    body: str
    """Lines with ``\\n``, whatever the file has."""
    lists: tuple[str, ...] = ()
    """Lists outside that were given an entry: ``TM_MAD -d``."""
    unended: bool = False
    """Whether the text before it had no newline at its end, and was given one."""

    def text(self, newline: str) -> str:
        """All its lines, for a file with this kind of line ends."""
        lists = f"{_LISTS}{', '.join(self.lists)}\n" if self.lists else ""
        note = f"{_NOTE}; {_UNENDED}" if self.unended else _NOTE
        whole = f"{_BEGIN}: {note}\n{lists}{self.body}{_END}\n".replace("\n", newline)
        return newline + whole if self.unended else whole


@dataclass(frozen=True, slots=True)
class Parts:
    """A file with its block taken out."""

    outside: str
    at: int
    """Where in ``outside`` the block was, or will be: at its end."""
    block: Block | None
    newline: str
    """Kind of the file's line ends."""


def split(text: str) -> Parts:
    """Take the block out. ConfError when the markers are not one pair."""
    newline = "\r\n" if re.search(r"\r?\n|\Z", text)[0] == "\r\n" else "\n"  # type: ignore[index]  # always matches
    found = list(_PATTERN.finditer(text))
    markers = re.findall(rf"^(?:{_BEGIN}|{_END})", text, re.MULTILINE)
    if len(markers) != 2 * len(found) or len(found) > 1:
        raise ConfError(
            f"the markers {_BEGIN!r} and {_END!r} are not one pair; "
            "remove what is left of them, and the stanzas between"
        )
    if not found:
        return Parts(text, len(text), None, newline)
    [match] = found
    start, newline = match.start(), match["newline"]
    unended = _UNENDED in match["note"]
    if unended and match.end() == len(text):
        start -= len(newline)
    lists = tuple(match["lists"].split(", ")) if match["lists"] else ()
    block = Block(match["body"].replace(newline, "\n"), lists, unended)
    return Parts(text[:start] + text[match.end() :], start, block, newline)
