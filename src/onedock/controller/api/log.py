"""The reconcile log as JSON, one line each."""

import json
import math
from dataclasses import asdict

from aiohttp import web

from onedock.controller.api.parts import Parts
from onedock.controller.journal_rows import LogLine
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import VmId

MOST = 100_000
_NUMBERS = 2**53
"""Where the numbers of a query end: no id, limit or time is as great, and SQLite takes them all."""
LEVELS = ("info", "warning", "error", "critical")


class LogView:
    """``/log``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[web.RouteDef]:
        """What is served here."""
        return [web.get("/log", self.log)]

    async def log(self, request: web.Request) -> web.StreamResponse:
        """The last lines, oldest first: ``vm``, ``since`` (Unix time), ``level`` (the least), ``limit``.

        With ``follow`` it never ends.
        """
        vm = VmId(int(_number(request, "vm", 0))) if "vm" in request.query else None
        limit = max(0, min(int(_number(request, "limit", 1000)), MOST))
        since = _number(request, "since", 0.0)
        levels = _levels(request.query.get("level", "info"))
        journal = self._parts.journal
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        newest = await journal.read_log(vm, limit=1)
        lines = await journal.read_log(vm, since=since, levels=levels, limit=limit)
        await response.prepare(request)
        for line in lines:
            await response.write(_line(line))
        if "follow" in request.query:
            last = max((line.id for line in (*newest, *lines)), default=0)
            async for line in self._parts.story.follow(journal, vm, after=last):
                if line.level in levels:
                    await response.write(_line(line))
        return response


def _number(request: web.Request, name: str, default: float) -> float:
    try:
        number = float(request.query.get(name, default))
    except ValueError:
        number = math.nan
    if not 0 <= number < _NUMBERS:
        raise TerminalError(f"{name} is not a number: {request.query[name][:40]!r}")
    return number


def _levels(least: str) -> tuple[str, ...]:
    if least not in LEVELS:
        raise TerminalError(f"there is no level {least[:20]!r}; use one of {', '.join(LEVELS)}")
    return LEVELS[LEVELS.index(least) :]


def _line(line: LogLine) -> bytes:
    return json.dumps(asdict(line), default=str).encode() + b"\n"
