"""The journal: intents, desired states, outcomes, conditions and the log of each VM, in one SQLite file.

WAL with full synchronisation: what was accepted survives a power cut. One thread owns the connection and commits
everything that waits in one transaction, so that a burst of intents costs one fsync. The event loop never blocks.
"""

import asyncio
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

from onedock.controller.intents import Intent, IntentState, NewIntent, Outcome
from onedock.controller.journal_rows import (
    SCHEMA,
    SCHEMA_VERSION,
    Change,
    Contents,
    IntentRow,
    LogLine,
    VmHeals,
    insert_intent,
    insert_outcome,
    load,
    put_desired,
    select_intents,
    select_last_heal,
    select_vm_heals,
    storable,
)
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Condition, Desired, NodeName, VmId

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], Any]


class Journal:
    """Owner of the SQLite file. All writes return when they are durable.

    Raises:
        TransientError: from every method, when the file cannot be written (disk full, read-only file system).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[tuple[Job, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_forever, name="journal", daemon=True)
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self.error = ""
        """Why the last change could not be written; empty after a good one."""

    @classmethod
    async def open(cls, path: Path) -> "Journal":
        """Open or create the file. Raises TransientError when that fails or a newer release has written it."""
        journal = cls(path)
        journal._thread.start()
        await asyncio.to_thread(journal._ready.wait)
        if journal._failure is not None:
            raise TransientError(f"the journal {path} cannot be opened: {journal._failure}") from journal._failure
        return journal

    async def close(self) -> None:
        """Write what is queued and close."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise RuntimeError(f"it was written by a newer release (schema {version}); install that release again")
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return connection

    def _write_forever(self) -> None:
        try:
            connection = self._connect()
        except (sqlite3.Error, OSError, RuntimeError) as error:
            self._failure = error
            return
        finally:
            self._ready.set()
        open_ = True
        while open_:
            batch = [self._jobs.get()]
            while not self._jobs.empty():
                batch.append(self._jobs.get())
            open_ = None not in batch
            self._commit(connection, [item for item in batch if item is not None])
        connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[tuple[Job, asyncio.Future[Any]]]) -> None:
        """Do the jobs in one transaction. Of a batch that fails each job is tried alone, so that it fails alone."""
        results: list[Any] = []
        before = connection.total_changes
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [job(connection) for job, _ in batch]
            connection.execute("COMMIT")
        except Exception as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if len(batch) > 1:
                for item in batch:
                    self._commit(connection, [item])
                return
            failure: Exception = error
            if isinstance(error, sqlite3.Error):
                failure = TransientError(
                    f"the journal {self._path} cannot be written: {error}; free space, check its rights"
                )
                self.error = str(failure)
            self._loop.call_soon_threadsafe(_settle, [(future, failure, None) for _, future in batch])
            return
        if connection.total_changes > before:
            self.error = ""
        settled = [(future, None, result) for (_, future), result in zip(batch, results, strict=True)]
        self._loop.call_soon_threadsafe(_settle, settled)

    async def _run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, future))
        return await future

    async def load(self) -> Contents:
        """Everything unfinished."""
        return await self._run(load)

    async def barrier(self) -> None:
        """Wait until everything that was handed in before is durable."""
        await self._run(lambda connection: None)

    async def accept(self, new: NewIntent) -> Intent | None:
        """Make an intent durable. None when the same source was accepted before."""
        return await self._run(lambda connection: insert_intent(connection, new))

    async def conclude(self, intent: Intent, outcome: Outcome | None, desired: Desired | None = None) -> None:
        """Close an intent with its outcome (None: cancelled), and with the desired state that it leaves behind."""

        def job(connection: sqlite3.Connection) -> None:
            state = IntentState.CANCELLED if outcome is None else IntentState.DONE
            connection.execute("UPDATE intents SET state = ? WHERE id = ?", (state, intent.id))
            if desired is not None:
                put_desired(connection, desired)
            if outcome is not None:
                insert_outcome(connection, intent.channel, outcome)

        await self._run(job)

    async def refuse(self, new: NewIntent, info: str, *, answers: bool) -> tuple[Intent, Outcome] | None:
        """Make a request durable together with its failure: one that is never to be worked on is never open.

        None when the same source was accepted before.
        """

        def job(connection: sqlite3.Connection) -> tuple[Intent, Outcome] | None:
            intent = insert_intent(connection, new, IntentState.DONE)
            if intent is None:
                return None
            outcome = Outcome(intent.id, ok=False, info=info, created=new.received, answers=answers)
            insert_outcome(connection, new.channel, outcome)
            return intent, outcome

        return await self._run(job)

    async def outcome_of(self, source: str) -> Outcome | None:
        """The outcome of an intent accepted before, for a script that asks again."""

        def job(connection: sqlite3.Connection) -> Outcome | None:
            row = connection.execute(
                "SELECT intent_id, ok, info, created, answers FROM outcomes"
                " WHERE intent_id = (SELECT id FROM intents WHERE source = ?)",
                (source,),
            ).fetchone()
            return Outcome(row[0], bool(row[1]), row[2], row[3], bool(row[4])) if row else None

        return await self._run(job)

    async def settle(self, intent_id: int, *, fate: str, time: float) -> None:
        """Note that an outcome was delivered, or dropped and why."""
        await self._run(
            lambda connection: connection.execute(
                "UPDATE outcomes SET settled = ?, fate = ? WHERE intent_id = ? AND settled IS NULL",
                (time, fate, intent_id),
            )
        )

    async def note_change(self, intent_id: int, change: Change) -> None:
        """Keep what an admin does to a request, as long as the request itself."""
        await self._run(
            lambda connection: connection.execute(
                "INSERT INTO changes VALUES (?, ?, ?, ?)", (intent_id, *astuple(change))
            )
        )

    async def put_desired(self, desired: Desired) -> None:
        """Replace the desired state of a VM."""
        await self._run(lambda connection: put_desired(connection, desired))

    async def forget(self, vm: VmId) -> None:
        """Drop the desired state and conditions of a VM that is gone. Its log and closed intents stay until pruned."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM desired WHERE vm = ?", (vm,))
            connection.execute("DELETE FROM conditions WHERE vm = ?", (vm,))

        await self._run(job)

    async def put_condition(self, vm: VmId, condition: Condition) -> None:
        """Replace one condition of a VM."""
        await self._run(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO conditions VALUES (?, ?, ?, ?, ?, ?)",
                (vm, condition.name, condition.ok, condition.reason, storable(condition.message), condition.since),
            )
        )

    async def write_log(self, lines: Iterable[LogLine]) -> None:
        """Append log lines."""
        rows = [(line.vm, line.time, line.level, line.event, json.dumps(line.fields, default=str)) for line in lines]
        await self._run(
            lambda connection: connection.executemany(
                "INSERT INTO log (vm, time, level, event, fields) VALUES (?, ?, ?, ?, ?)", rows
            )
        )

    async def read_log(
        self, vm: VmId | None, *, after: int = 0, since: float = 0.0, levels: Sequence[str] = (), limit: int = 1000
    ) -> tuple[LogLine, ...]:
        """The last ``limit`` lines after line ``after`` and Unix time ``since``, oldest first.

        Of all VMs when ``vm`` is None, of all levels when ``levels`` is empty.
        """

        def job(connection: sqlite3.Connection) -> tuple[LogLine, ...]:
            rows = connection.execute(
                "SELECT vm, time, level, event, fields, id FROM log WHERE (:vm IS NULL OR vm = :vm) AND id > :after"
                " AND time >= :since AND (:levels = '[]' OR level IN (SELECT value FROM json_each(:levels)))"
                " ORDER BY id DESC LIMIT :limit",
                {"vm": vm, "after": after, "since": since, "levels": json.dumps(list(levels)), "limit": limit},
            ).fetchall()
            return tuple(LogLine(VmId(r[0]), r[1], r[2], r[3], json.loads(r[4]), r[5]) for r in reversed(rows))

        return await self._run(job)

    async def vm_heals(self, vm: VmId) -> VmHeals:
        """How often a VM's network was put back; see ``journal_rows.select_vm_heals``."""
        return await self._run(lambda connection: select_vm_heals(connection, vm))

    async def last_heal(self, node: NodeName) -> tuple[float, int]:
        """The last heal of a node that was logged; see ``journal_rows.select_last_heal``."""
        return await self._run(lambda connection: select_last_heal(connection, node))

    async def intents(
        self, *, vm: VmId | None = None, intent_id: int | None = None, pending: bool = False, limit: int = 100
    ) -> tuple[IntentRow, ...]:
        """The newest requests and what became of them, oldest first; see ``journal_rows.select_intents``."""
        return await self._run(
            lambda connection: select_intents(connection, vm=vm, intent_id=intent_id, pending=pending, limit=limit)
        )

    async def prune(self, *, log_per_vm: int, log_since: float, intents_since: float) -> None:
        """Bound the file: of each VM the newest log lines stay; lines and closed intents before a time go."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM log WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER"
                " (PARTITION BY vm ORDER BY id DESC) AS place FROM log) WHERE place > ?)",
                (log_per_vm,),
            )
            connection.execute("DELETE FROM log WHERE time < ?", (log_since,))
            connection.execute(
                "DELETE FROM intents WHERE state != 'open' AND received < ? AND id NOT IN"
                " (SELECT intent_id FROM outcomes WHERE settled IS NULL)",
                (intents_since,),
            )

        await self._run(job)


def _settle(results: Sequence[tuple[asyncio.Future[Any], Exception | None, Any]]) -> None:
    for future, failure, result in results:
        if future.cancelled():
            continue
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(result)
