"""The tables: on the terminal, and between two marks in docs/benchmarks.md."""

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import Report, Row

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
TABLE = "### "
COLUMNS = ("what", "n", "p50", "p95", "p99", "unit", "ratio", "goal", "met")


def _cells(row: Row) -> tuple[str, ...]:
    values = row.series
    goal = "" if row.goal is None else f"≤ {row.goal:g}" + ("" if row.goal_of == "ratio" else f" ({row.goal_of})")
    met = {None: "", True: "yes", False: "no"}[row.met]
    spread = [row.shown(value) for value in (values.median, values.percentile(95), values.percentile(99))]
    if len(values) == 1:
        spread[1:] = ["", ""]
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return (row.what, str(len(values)), *spread, row.unit, ratio, goal, met)


def show(report: Report) -> None:
    """Print one report."""
    table = Table(title=f"{report.title} ({report.seconds:.0f} s)", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in report.rows:
        cells = _cells(row)
        table.add_row(*cells, style="red" if row.met is False else None)
    Console().print(table)


def write(reports: Sequence[Report]) -> None:
    """Replace these tables of docs/benchmarks.md, and leave the others. ValueError: the page has lost its marks."""
    page = PAGE.read_text()
    head, begin, rest = page.partition(BEGIN)
    there, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} has no line {BEGIN} or {END}")
    machine = f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores."
    tables = {table.partition("\n")[0]: table.strip() for table in there.split(TABLE)[1:]}
    tables |= {report.title: "\n".join(_lines(report)) for report in reports}
    body = "\n\n".join([machine, *(TABLE + table for table in tables.values())])
    PAGE.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}")


def _lines(report: Report) -> Iterable[str]:
    yield report.title
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---|" + "---:|" * (len(COLUMNS) - 1)
    for row in report.rows:
        yield f"| {' | '.join(_cells(row))} |"
