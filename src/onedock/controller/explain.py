"""Why a VM is not as it should be: the one cause that blocks it. Pure. Called by the API for ``explain``.

The order of the questions is the point: a cause comes before everything that it brings about. The disk of the
journal comes before requests that cannot be taken, a dead engine before the passes that fail on it, oned before its
drivers, which end with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from onedock.controller.documents import VmDocument
from onedock.controller.journal_rows import IntentRow
from onedock.controller.oned import LCM_STATE, VM_STATE
from onedock.reconcilers.model import Condition, Desired, Power, VmId

_UNPLACED = frozenset({VM_STATE.PENDING, VM_STATE.HOLD, VM_STATE.CLONING})
_BY_HAND = frozenset({"Exited", "OutOfMemory", "ContainerRemoved", "Paused", "StartFailed"})


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that is known about one VM at one moment."""

    vm: VmId
    driver: str
    """NAME of our drivers in oned."""
    desired: Desired | None = None
    node_conditions: tuple[Condition, ...] = ()
    """Of the node that the VM is on, or is to be on."""
    look_error: str = ""
    """Why the VM could not be looked at just now."""
    plan: tuple[str, ...] = ()
    plan_error: str = ""
    error: str = ""
    """Of the last pass."""
    retry_in_s: float | None = None
    in_progress: str = ""
    """What is being done, and how far; empty when nothing is."""
    waiting: tuple[str, ...] = ()
    """What the network lacks that only others can give."""
    recent: tuple[IntentRow, ...] = ()
    """Concluded requests, the newest first."""
    running: Condition | None = None
    document: VmDocument | None = None
    """The VM as oned sees it now; None: it has no such VM, or could not be asked."""
    oned_error: str = ""
    journal_error: str = ""
    links: dict[str, bool] = field(default_factory=dict)
    """Which of oned's drivers are connected."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One sentence, and whether it keeps the VM from being what it should be."""

    text: str
    blocking: bool = True


def find_cause(situation: Situation) -> Cause:
    """The first cause; when there is none, what the VM is."""
    return next(_causes(situation), _fine(situation))


def _causes(situation: Situation) -> Iterator[Cause]:
    if situation.journal_error:
        yield Cause(situation.journal_error)
    for condition in situation.node_conditions:
        if not condition.ok and condition.name != "LiveRestore":
            yield Cause(condition.message)
    if situation.error:
        again = "" if situation.retry_in_s is None else f" (tried again in {situation.retry_in_s:.0f} s)"
        yield Cause(f"{situation.error}{again}")
    if situation.look_error:
        yield Cause(situation.look_error)
    if situation.plan_error:
        yield Cause(situation.plan_error)
    if situation.in_progress:
        yield Cause(f"in progress: {situation.in_progress}", blocking=False)
    if situation.oned_error:
        yield Cause(situation.oned_error)
    yield from _failed(situation)
    yield from _stopped(situation)
    yield from _oneds_side(situation)
    yield from map(Cause, situation.waiting)
    if situation.plan:
        yield Cause(f"it differs from what is wanted, the next pass will: {'; '.join(situation.plan)}")


def _failed(situation: Situation) -> Iterator[Cause]:
    """The last request failed, and oned shows it."""
    document = situation.document
    if document is None or document.state != VM_STATE.ACTIVE:
        return
    name = lcm_name(document.lcm_state)
    if not name.endswith("FAILURE"):
        return
    if failed := next((row for row in situation.recent if row.ok is False), None):
        yield Cause(f"{failed.action} failed: {failed.info}")
    yield Cause(f"OpenNebula shows {name}: {document.user_attributes.get('ERROR', 'see its log')}")


def _stopped(situation: Situation) -> Iterator[Cause]:
    running, desired = situation.running, situation.desired
    if running is not None and not running.ok and running.reason in _BY_HAND and desired is not None:
        yield Cause(running.message or running.reason)


def _oneds_side(situation: Situation) -> Iterator[Cause]:
    document = situation.document
    if document is None and not situation.oned_error and situation.desired is None:
        yield Cause("OpenNebula has no such VM", blocking=False)
    elif document is not None:
        if document.state == VM_STATE.DONE:
            yield Cause("the VM is DONE in OpenNebula", blocking=False)
        elif document.state in _UNPLACED:
            why = document.user_attributes.get("SCHED_MESSAGE", "")
            yield Cause(f"OpenNebula has not placed the VM on a host: {why or VM_STATE(document.state).name}")
        elif document.history.vm_mad not in {"", situation.driver}:
            yield Cause(f"the VM belongs to the driver {document.history.vm_mad!r}, not to ONEDock", blocking=False)
    for kind, words in (
        ("vmm", "no request of OpenNebula can arrive, and no answer leave"),
        ("im", "OpenNebula is not told what happens to VMs and hosts"),
    ):
        if not situation.links.get(kind, True):
            yield Cause(f"the driver onedock-{kind} is not connected: {words}; see oned.log")


def _fine(situation: Situation) -> Cause:
    desired = situation.desired
    if desired is None or desired.power is Power.ABSENT:
        return Cause("nothing of it is on a node, as wanted", blocking=False)
    text = f"nothing blocks it: it is {desired.power} on {desired.node}, as wanted"
    if situation.recent and situation.recent[0].ok is False:
        last = situation.recent[0]
        text += f"; the last request, {last.action}, failed: {last.info}"
    return Cause(text, blocking=False)


def lcm_name(lcm_state: int) -> str:
    """Oned's word for an LCM_STATE."""
    try:
        return str(LCM_STATE(lcm_state).name)
    except ValueError:
        return f"LCM state {lcm_state}"
