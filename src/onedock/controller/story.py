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
        self._written = asyncio.Event()
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
        written, self._written = self._written, asyncio.Event()
        written.set()

    async def follow(self, journal: Journal, vm: VmId | None, *, after: int) -> AsyncIterator[LogLine]:
        """Lines after line ``after``, of one VM or of all, as they are written, for ever."""
        while True:
            written = self._written  # taken before reading: what is written meanwhile sets it
            for line in await journal.read_log(vm, after=after, limit=MAX_WAITING):
                after = line.id
                yield line
            await written.wait()
