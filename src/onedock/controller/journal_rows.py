"""The rows of the journal: its schema, and how values are written and read. Used by ``journal`` alone."""

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from onedock.controller.intents import Channel, Intent, IntentState, NewIntent, Outcome
from onedock.controller.verbs import without_first_word
from onedock.reconcilers.model import Condition, Desired, NodeName, VmId

log = structlog.get_logger(__name__)

_DESIRED = TypeAdapter(Desired)
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS intents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL UNIQUE, channel TEXT NOT NULL, action TEXT NOT NULL,
    vm INTEGER, node TEXT NOT NULL, payload TEXT NOT NULL, received REAL NOT NULL,
    lcm_state INTEGER NOT NULL, history_seq INTEGER NOT NULL, state TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS open_intents ON intents (state) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS intents_by_vm ON intents (vm, id);
CREATE TABLE IF NOT EXISTS outcomes (
    intent_id INTEGER PRIMARY KEY REFERENCES intents (id) ON DELETE CASCADE, ok INTEGER NOT NULL, info TEXT NOT NULL,
    created REAL NOT NULL, answers INTEGER NOT NULL, settled REAL, fate TEXT);
CREATE INDEX IF NOT EXISTS unsettled_outcomes ON outcomes (intent_id) WHERE settled IS NULL;
CREATE TABLE IF NOT EXISTS desired (vm INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS conditions (
    vm INTEGER NOT NULL, name TEXT NOT NULL, ok INTEGER NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
    since REAL NOT NULL, PRIMARY KEY (vm, name));
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY AUTOINCREMENT, vm INTEGER NOT NULL, time REAL NOT NULL, level TEXT NOT NULL,
    event TEXT NOT NULL, fields TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS log_by_vm ON log (vm, id);
CREATE TABLE IF NOT EXISTS changes (
    intent_id INTEGER NOT NULL REFERENCES intents (id) ON DELETE CASCADE, change TEXT NOT NULL, user TEXT NOT NULL,
    time REAL NOT NULL);
CREATE INDEX IF NOT EXISTS changes_by_intent ON changes (intent_id);
"""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the reconcile log of a VM."""

    vm: VmId
    time: float
    level: str
    event: str
    fields: dict[str, Any]
    id: int = 0


HEALED = "network healed"
"""The event of the lines about networks that an agent put back."""


@dataclass(frozen=True, slots=True)
class VmHeals:
    """What the log of a VM has of them."""

    count: int = 0
    latest: LogLine | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What an admin did to a request by hand."""

    change: str
    """``retry`` or ``drop``."""
    user: str
    time: float


@dataclass(frozen=True, slots=True)
class IntentRow:
    """One request and what became of it, for display."""

    id: int
    channel: Channel
    action: str
    vm: VmId | None
    node: NodeName
    received: float
    state: IntentState
    ok: bool | None = None
    """None: there is no outcome."""
    info: str = ""
    concluded: float | None = None
    """Unix time."""
    settled: float | None = None
    fate: str | None = None
    """``delivered``, or why it was dropped; None while it is on its way, and where nobody waits for an answer."""
    changes: tuple[Change, ...] = ()
    """By hand, oldest first."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a controller needs to go on where the last one stopped."""

    desired: tuple[Desired, ...]
    intents: tuple[Intent, ...]
    """Open ones, oldest first."""
    outcomes: tuple[tuple[Intent, Outcome], ...]
    """Those that oned may not have got."""
    conditions: tuple[tuple[VmId, Condition], ...]


def storable(text: str) -> str:
    """The text without lone surrogates, which SQLite cannot keep: an engine's or agent's error may have some."""
    return text.encode(errors="replace").decode()


def insert_intent(
    connection: sqlite3.Connection, new: NewIntent, state: IntentState = IntentState.OPEN
) -> Intent | None:
    """Insert an intent; None when its source is there already."""
    cursor = connection.execute(
        "INSERT INTO intents"
        " (source, channel, action, vm, node, payload, received, lcm_state, history_seq, state) VALUES"
        " (:source, :channel, :action, :vm, :node, :payload, :received, :lcm_state, :history_seq, :state)"
        " ON CONFLICT (source) DO NOTHING",
        asdict(new) | {"state": state},
    )
    return Intent(**asdict(new), id=cursor.lastrowid or 0) if cursor.rowcount else None


def insert_outcome(connection: sqlite3.Connection, channel: Channel, outcome: Outcome) -> None:
    """Insert the outcome of an intent; settled at once when there is nobody to deliver it to.

    A pass that was stopped may have concluded the intent without knowing it: the last conclusion counts.
    """
    settled = None if outcome.answers and channel is Channel.VMM else outcome.created
    connection.execute(
        "INSERT OR REPLACE INTO outcomes (intent_id, ok, info, created, answers, settled) VALUES (?, ?, ?, ?, ?, ?)",
        (outcome.intent_id, outcome.ok, storable(outcome.info), outcome.created, outcome.answers, settled),
    )


def put_desired(connection: sqlite3.Connection, desired: Desired) -> None:
    """Insert or replace a desired state."""
    body = _DESIRED.dump_json(desired).decode()
    connection.execute("INSERT OR REPLACE INTO desired VALUES (?, ?)", (desired.vm, body))


_SELECT_OPEN = """
SELECT source, channel, action, vm, node, payload, received, lcm_state, history_seq, id
FROM intents WHERE state = 'open' ORDER BY id
"""
_SELECT_UNSETTLED = """
SELECT source, channel, action, vm, node, payload, received, lcm_state, history_seq, id, ok, info, created, answers
FROM outcomes JOIN intents ON id = intent_id WHERE settled IS NULL ORDER BY intent_id
"""


def _intent(row: tuple[Any, ...]) -> Intent:
    source, channel, action, vm, node, payload, received, lcm_state, history_seq, intent_id = row
    return Intent(
        source=source,
        channel=Channel(channel),
        action=action,
        vm=None if vm is None else VmId(vm),
        node=NodeName(node),
        payload=payload,
        received=received,
        lcm_state=lcm_state,
        history_seq=history_seq,
        id=intent_id,
    )


_SELECT_FOR_DISPLAY = """
SELECT id, channel, action, vm, node, received, state, ok, info, created, settled, fate
FROM intents LEFT JOIN outcomes ON id = intent_id
WHERE (:vm IS NULL OR vm = :vm) AND (:id IS NULL OR id = :id)
AND (NOT :pending OR state = 'open' OR (created IS NOT NULL AND settled IS NULL))
ORDER BY id DESC LIMIT :limit
"""


def select_intents(
    connection: sqlite3.Connection, *, vm: VmId | None, intent_id: int | None, pending: bool, limit: int
) -> tuple[IntentRow, ...]:
    """The newest requests that fit, oldest first. ``pending``: those not concluded, or not delivered."""
    values = {"vm": vm, "id": intent_id, "pending": pending, "limit": limit}
    by_hand = "SELECT change, user, time FROM changes WHERE intent_id = ? ORDER BY rowid"
    return tuple(
        IntentRow(
            id=row[0],
            channel=Channel(row[1]),
            action=row[2],
            vm=None if row[3] is None else VmId(row[3]),
            node=NodeName(row[4]),
            received=row[5],
            state=IntentState(row[6]),
            ok=None if row[7] is None else bool(row[7]),
            info=without_first_word(row[2], row[8] or ""),
            concluded=row[9],
            settled=row[10],
            fate=row[11],
            changes=tuple(Change(*change) for change in connection.execute(by_hand, (row[0],))),
        )
        for row in reversed(connection.execute(_SELECT_FOR_DISPLAY, values).fetchall())
    )


def select_vm_heals(connection: sqlite3.Connection, vm: VmId) -> VmHeals:
    """How often the network of a VM was put back, and the last time, as far as its log goes back."""
    (count,) = connection.execute("SELECT count(*) FROM log WHERE vm = ? AND event = ?", (vm, HEALED)).fetchone()
    row = connection.execute(
        "SELECT time, level, fields, id FROM log WHERE vm = ? AND event = ? ORDER BY id DESC LIMIT 1", (vm, HEALED)
    ).fetchone()
    return VmHeals(count, LogLine(vm, row[0], row[1], HEALED, json.loads(row[2]), row[3]) if row else None)


def select_last_heal(connection: sqlite3.Connection, node: NodeName) -> tuple[float, int]:
    """The start of the agent of the last heal of a node that was logged, and its number; zeros: there is none."""
    row = connection.execute(
        "SELECT json_extract(fields, '$.heal[0]'), json_extract(fields, '$.heal[1]') FROM log"
        " WHERE event = ? AND json_extract(fields, '$.node') = ? ORDER BY id DESC LIMIT 1",
        (HEALED, node),
    ).fetchone()
    return (float(row[0]), int(row[1])) if row else (0.0, 0)


def _desired(vm: int, body: str) -> Desired | None:
    """One desired state; None for one of another release, which the next resync takes from oned instead."""
    try:
        return _DESIRED.validate_json(body)
    except ValidationError as error:
        log.error("a desired state in the journal cannot be read", vm=vm, error=str(error)[:200])
        return None


def load(connection: sqlite3.Connection) -> Contents:
    """Read everything unfinished."""
    bodies = connection.execute("SELECT vm, body FROM desired").fetchall()
    desired = tuple(read for vm, body in bodies if (read := _desired(vm, body)) is not None)
    intents = tuple(_intent(row) for row in connection.execute(_SELECT_OPEN))
    outcomes = tuple(
        (_intent(row[:10]), Outcome(row[9], bool(row[10]), row[11], row[12], bool(row[13])))
        for row in connection.execute(_SELECT_UNSETTLED)
    )
    conditions = tuple(
        (VmId(row[0]), Condition(name=row[1], ok=bool(row[2]), reason=row[3], message=row[4], since=row[5]))
        for row in connection.execute("SELECT vm, name, ok, reason, message, since FROM conditions")
    )
    return Contents(desired=desired, intents=intents, outcomes=outcomes, conditions=conditions)
