"""``onedock log``."""

import datetime
import json
import re
import time
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlencode

import typer

from onedock.cli.client import ApiError, stream_json
from onedock.cli.common import AsJson, Vm, api_socket, console, explained
from onedock.cli.show import log_line

_AGE = re.compile(r"([0-9]+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Level(StrEnum):
    """The least level that is shown."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def log(
    vm: Vm = None,
    since: Annotated[str, typer.Option(help="Lines of the last 90s, 10m, 2h or 3d, or since a time (ISO 8601).")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    level: Annotated[Level, typer.Option(help="The least level that is shown.")] = Level.INFO,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Lines from the past.", min=0, max=100_000)] = 200,
    as_json: AsJson = False,
) -> None:
    """Show what was done with a VM and why, oldest first."""
    with explained():
        query = {"limit": str(limit), "level": level.value}
        if vm is not None:
            query["vm"] = str(vm)
        if since:
            query["since"] = str(parse_since(since, time.time()))
        target = f"/log?{urlencode(query)}" + ("&follow" if follow else "")
        for line in stream_json(api_socket(), target):
            if as_json:
                print(json.dumps(line), flush=True)
            else:
                console.print(log_line(line), soft_wrap=True)


def parse_since(text: str, now: float) -> float:
    """The Unix time that ``text`` names: an age before ``now``, or an ISO 8601 time. Raises ApiError."""
    if match := _AGE.fullmatch(text):
        return now - int(match[1]) * _SECONDS[match[2]]
    try:
        return datetime.datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise ApiError(f"--since {text!r} is no time: write 90s, 10m, 2h, 3d or 2026-01-31T12:00") from None
