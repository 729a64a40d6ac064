"""Tables and detail pages that fit 80 columns."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table
from rich.text import Text

_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column: numbers stand at the right, and what does not fit is cut with an ellipsis."""

    title: str
    right: bool = False
    shrinks: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Prints one line per row, plain, without a frame."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            # a column that may shrink does so before any other loses a character
            min_width=6
            if column.shrinks
            else max([len(column.title), *(len(row[columns.index(column)]) for row in rows)]),
        )
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    Console(soft_wrap=False).print(made)


def page(title: str, lines: Sequence[tuple[str, str]]) -> None:
    """Prints the head of an object: a title and ``name : value`` lines."""
    console = Console()
    console.print(Text(f"{title} INFORMATION", style="bold"))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        console.print(Text(f"{name:<{width}} : {value}"), soft_wrap=True)


def attributes(title: str, parent: ElementTree.Element | None) -> None:
    """Prints a template as text: ``NAME="value"`` and vectors."""
    if parent is None or len(parent) == 0:
        return
    console = Console()
    console.print()
    console.print(Text(title, style="bold"))
    for item in sorted(parent, key=lambda element: element.tag):
        if len(item):
            inner = ",\n".join(f'{_INDENT}{child.tag}="{child.text or ""}"' for child in item)
            text = f"{item.tag}=[\n{inner} ]"
        else:
            text = f'{item.tag}="{item.text or ""}"'
        console.print(Text(text), soft_wrap=True)


def date(epoch: str | None) -> str:
    """``11/20 19:16:33``, or ``-`` for a time that has not come."""
    if not epoch or epoch == "0":
        return "-"
    return time.strftime("%m/%d %H:%M:%S", time.localtime(int(epoch)))


def duration(start: str | None, end: str | None) -> str:
    """Days, hours and minutes from start to end, or to now."""
    if not start or start == "0":
        return "-"
    until = int(end) if end and end != "0" else int(time.time())
    minutes = max(0, until - int(start)) // 60
    return f"{minutes // 1440}d {minutes // 60 % 24:02}h{minutes % 60:02}"


def size(megabytes: str | None) -> str:
    """``512M``, ``1.5G``, ``2.0T``."""
    amount = float(megabytes or 0)
    for unit in ("M", "G"):
        if amount < 1024:
            return f"{amount:.0f}{unit}" if unit == "M" else f"{amount:.1f}{unit}"
        amount /= 1024
    return f"{amount:.1f}T"
