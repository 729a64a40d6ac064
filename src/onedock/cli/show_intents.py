"""A table of requests for people. Pure: from the API's JSON to a rich renderable."""

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onedock.cli.show import Json, ago


def intent_table(rows: list[Json], now: float) -> RenderableType:
    """One line per request: what was asked, when, and what became of it."""
    if not rows:
        return Text("no requests")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("REQUEST", "VM", "ACTION", "AGE", "STATE"):
        table.add_column(column, no_wrap=True)
    table.add_column("OUTCOME", overflow="fold")
    for row in rows:
        vm = "-" if row["vm"] is None else str(row["vm"])
        table.add_row(str(row["id"]), vm, row["action"], ago(row["received"], now), _state(row), _outcome(row))
    return table


def _state(row: Json) -> Text:
    if row["ok"] is None:
        return Text(row["state"], style="yellow" if row["state"] == "open" else "dim")
    return Text("done", style="green") if row["ok"] else Text("failed", style="red")


def _outcome(row: Json) -> str:
    by_hand = [f"{change['change']} by {change['user']}" for change in row["changes"]]
    if row["ok"] is None:
        return "; ".join(by_hand)
    fate = row["fate"] or ("" if row["settled"] else "not delivered yet")
    return "; ".join(part for part in (row["info"] if row["info"] != "-" else "", fate, *by_hand) if part)
