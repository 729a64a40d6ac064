"""The reconcile log of each VM: log events that carry ``vm`` are kept in the journal and can be followed.

A structlog processor, so that log and story are the same sentences. Lines are written in batches off the path of
the passes; a crash may lose those of the last moment, never an intent.
"""

import asyncio
import time
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

from onedock.controller.journal import Journal
from onedock.controller.journal_rows import LogLine
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import VmId

BATCH_S = 0.05
MAX_WAITING = 20_000


class Story:
    """Collects log lines of VMs, writes them to the journal, and hands them to followers."""

    def __init__(self) -> None:
        self._waiting: list[LogLine] = []
        self._arrived = asyncio.Event()
        self._followers: set[asyncio.Queue[LogLine]] = set()
        self._loop = asyncio.get_running_loop()

    def processor(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """See every event; never changes it. Called in whatever thread logs."""
        vm = event.get("vm")
        if isinstance(vm, int) and method != "debug":
            fields = {k: v for k, v in event.items() if k not in {"vm", "event", "level", "timestamp", "exc_info"}}
            line = LogLine(VmId(vm), time.time(), method, str(event.get("event", "")), fields)
            self._loop.call_soon_threadsafe(self._add, line)
        return event

    def _add(self, line: LogLine) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(line)
        self._arrived.set()

    async def run(self, journal: Journal) -> None:
        """Write batches to the journal, for ever, and the last one when cancelled."""
        try:
            while True:
                await self._arrived.wait()
                await asyncio.sleep(BATCH_S)
                await self._write(journal)
        finally:
            await self._write(journal)

    async def _write(self, journal: Journal) -> None:
        self._arrived.clear()
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        try:
            await journal.write_log(batch)
        except TransientError:
            self._waiting = batch + self._waiting  # a full disk: keep them, bounded by MAX_WAITING
            return
        for line in batch:
            for follower in self._followers:
                follower.put_nowait(line)

    async def follow(self) -> AsyncIterator[LogLine]:
        """Lines as they are written, from now on."""
        lines: asyncio.Queue[LogLine] = asyncio.Queue()
        self._followers.add(lines)
        try:
            while True:
                yield await lines.get()
        finally:
            self._followers.discard(lines)
