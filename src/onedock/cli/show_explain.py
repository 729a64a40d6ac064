"""An explanation and plans for people. Pure: from the API's JSON to rich renderables."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onedock.cli.show import Json, ago, condition_line

_INDENT = "  "


def cause_line(answer: Json) -> Text:
    """The first line: the cause, whole."""
    style = "bold red" if answer["cause"]["blocking"] else "bold green"
    return Text.assemble((f"VM {answer['vm']}: ", "bold"), (answer["cause"]["text"], style))


def explanation(answer: Json, now: float) -> RenderableType:
    """Everything below the first line."""
    parts: list[RenderableType] = [Text(), _where(answer)]
    parts += [Text.assemble(_INDENT, condition_line(condition, now)) for condition in answer["conditions"]]
    if answer["fields"]:
        parts += [Text(), _fields(answer, now)]
    parts += [Text(), *_requests(answer, now), *_next(answer)]
    return Group(*parts)


def _where(answer: Json) -> Text:
    one = answer["one"]
    state = "not known" if one is None else one["state"]
    if one is not None and one["state"] == "ACTIVE":
        state += f" {one['lcm_state']}"
    text = Text.assemble((f"{answer['name'] or 'no name'}", "bold"), f" on {answer['node'] or 'no node'}")
    text.append(f"; in OpenNebula: {state}")
    if one is not None and one["error"]:
        text.append(f"\n{_INDENT}ERROR there: {one['error']}", style="dim")
    return text


def _fields(answer: Json, now: float) -> Table:
    age = "now" if answer["fresh"] else f"{ago(answer['observed_at'], now)} ago"
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", width=1)
    table.add_column("FIELD", no_wrap=True)
    table.add_column("DESIRED", overflow="fold")
    table.add_column(f"OBSERVED {age}", overflow="fold")
    for row in answer["fields"]:
        mark, style = ("=", "green") if row["same"] else ("≠", "yellow")
        table.add_row(Text(mark, style=style), row["field"], row["desired"], Text(row["observed"], style=style))
    return table


def _requests(answer: Json, now: float) -> list[RenderableType]:
    last = answer["last"]
    if last is None:
        line = Text("last request: none is known")
    else:
        outcome = "cancelled" if last["ok"] is None else "done" if last["ok"] else f"failed: {last['info']}"
        when = ago(last["concluded"] or last["received"], now)
        fate = f" ({last['fate']})" if last["fate"] else ""
        line = Text(f"last request: {last['action']} (request {last['id']}) {when} ago: {outcome}{fate}")
    running = [Text(f"in progress: {answer['in_progress']}", style="yellow")] if answer["in_progress"] else []
    return [line, *running]


def _next(answer: Json) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if answer["plan"]:
        lines.append(Text("the next pass would:"))
        lines += [Text(f"{_INDENT}{number}. {text}") for number, text in enumerate(answer["plan"], 1)]
    elif answer["plan_error"]:
        lines.append(Text(f"no plan: {answer['plan_error']}", style="red"))
    else:
        lines.append(Text("the next pass would do nothing"))
    if answer["error"]:
        lines.append(Text(f"last error: {answer['error']}", style="red"))
    if answer["retry_in_s"] is not None:
        lines.append(Text(f"next pass in {answer['retry_in_s']:.0f} s"))
    return lines


def plans(answer: list[Json]) -> RenderableType:
    """Plans of some VMs."""
    lines: list[RenderableType] = []
    for plan in answer:
        lines.append(Text(f"VM {plan['vm']} {plan['name']} on {plan['node'] or '-'}", style="bold"))
        lines += [Text(f"{_INDENT}{number}. {text}") for number, text in enumerate(plan["actions"], 1)]
        if plan["error"]:
            lines.append(Text(f"{_INDENT}{plan['error']}", style="red"))
        elif not plan["actions"]:
            lines.append(Text(f"{_INDENT}nothing to do", style="green"))
    return Group(*lines) if lines else Text("nothing to do", style="green")
