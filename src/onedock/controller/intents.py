"""Intents and outcomes: what oned asked for and what it is told. Plain values, kept in the journal."""

from dataclasses import dataclass
from enum import StrEnum

from onedock.reconcilers.model import NodeName, VmId


class Channel(StrEnum):
    """Where an intent came from, and so where its outcome goes."""

    VMM = "vmm"
    TM = "tm"
    DATASTORE = "datastore"


class IntentState(StrEnum):
    """The life of an intent. Only open ones are worked on."""

    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class NewIntent:
    """A request before it is durable."""

    source: str
    """``<session>:<seq>`` of a driver line, or the request id of a script: the same twice is one intent."""
    channel: Channel
    action: str
    """oned's word: DEPLOY, SHUTDOWN, … or the script's name: clone, delete, …"""
    vm: VmId | None
    node: NodeName
    payload: str
    """VMM: the XML document. Scripts: JSON with ``argv`` and ``stdin``."""
    received: float
    """Unix time."""
    lcm_state: int = -1
    """LCM_STATE that the VM had when oned asked; what it must still have to get the answer."""
    history_seq: int = -1
    """SEQ of the history record at that time."""


@dataclass(frozen=True, slots=True)
class Intent(NewIntent):
    """A durable request."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one intent."""

    intent_id: int
    ok: bool
    info: str
    """VMM: text after the id. Scripts: standard output on success, standard error on failure."""
    created: float
    answers: bool = True
    """False when oned expects no line (REBOOT, RESET and BACKUPCANCEL have no handler: protocol reference 2.3)."""


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """What a TM or datastore script prints, and its exit code."""

    code: int
    stdout: str = ""
    stderr: str = ""
