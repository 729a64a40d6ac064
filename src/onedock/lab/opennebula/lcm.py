"""The life-cycle table of a VM: what a request, an answer or a report makes of it. Pure.

Every function returns a :class:`Step` or None ("nothing happens in this state"). Protocol reference 2.3, 3.1, 5.6 and
9.2-9.3 are the source; the marks on history records are as recorded.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from onedock.lab.opennebula.states import LcmState as Lcm
from onedock.lab.opennebula.states import VmState


class Mark(StrEnum):
    """One entry into the history of the VM."""

    ACTION = "the requested action and who asked"
    MONITOR_ACTION = "action 44: monitoring saw it"
    CLEAR_ACTION = "no action under way"
    OPEN = "a new record on the same host"
    CLOSE = "the record ends"
    PREVIOUS_END = "the run on the host it migrates from ends"
    RETURN = "a new record on the host it was to migrate from"
    PROLOG_START = "prolog starts"
    PROLOG_END = "prolog ends"
    RUN_START = "run starts"
    RUN_END = "run ends"
    RUNS = "the run has no end yet"
    EPILOG_START = "epilog starts"
    EPILOG_END = "epilog ends"


@dataclass(frozen=True, slots=True)
class Request:
    """A message to the VMM driver (its name) or a transfer script (its suffix)."""

    to: Literal["vmm", "tm"]
    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """What happens next: new state, history marks in order, then requests in order.

    ``settle`` clears or rolls back what a hot operation has marked in the template.
    """

    state: VmState
    lcm: Lcm = Lcm.LCM_INIT
    marks: tuple[Mark, ...] = ()
    requests: tuple[Request, ...] = ()
    settle: bool = False


class WrongStateError(Exception):
    """The action is not possible in the VM's state."""


def vmm(*names: str) -> tuple[Request, ...]:
    """Requests to the VMM driver."""
    return tuple(Request("vmm", name) for name in names)


def tm(name: str) -> tuple[Request, ...]:
    """A transfer script."""
    return (Request("tm", name),)


def active(lcm: Lcm, *marks: Mark, requests: tuple[Request, ...] = (), settle: bool = False) -> Step:
    """A step to an LCM state of an ACTIVE VM."""
    return Step(VmState.ACTIVE, lcm, marks, requests, settle)


_BOOTED = active(Lcm.RUNNING, Mark.RUNS, Mark.CLEAR_ACTION)
_BACK = active(Lcm.RUNNING, Mark.CLEAR_ACTION)
_SETTLED = active(Lcm.RUNNING, settle=True)
_DONE = Step(VmState.DONE)
_EPILOG = tm("epilog")


def _rest(state: VmState, *marks: Mark, settle: bool = False) -> Step:
    return Step(state, marks=marks, settle=settle)


BOOT_ANSWERS: dict[Lcm, tuple[str, Step]] = {
    Lcm.BOOT: ("DEPLOY", active(Lcm.BOOT_FAILURE, Mark.RUN_END)),
    Lcm.BOOT_POWEROFF: ("DEPLOY", _rest(VmState.POWEROFF, Mark.RUN_END)),
    Lcm.BOOT_UNKNOWN: ("DEPLOY", active(Lcm.UNKNOWN)),
    Lcm.BOOT_UNDEPLOY: ("DEPLOY", active(Lcm.BOOT_UNDEPLOY_FAILURE, Mark.RUN_END)),
    Lcm.BOOT_SUSPENDED: ("RESTORE", _rest(VmState.SUSPENDED, Mark.RUN_END)),
    Lcm.BOOT_STOPPED: ("RESTORE", active(Lcm.BOOT_STOPPED_FAILURE, Mark.RUN_END)),
    Lcm.BOOT_MIGRATE: ("RESTORE", active(Lcm.BOOT_MIGRATE_FAILURE, Mark.RUN_END)),
}
"""LCM state → request it waits for, step when that fails. All succeed into RUNNING."""

BOOT_FAILURES = (
    Lcm.BOOT_FAILURE,
    Lcm.BOOT_MIGRATE_FAILURE,
    Lcm.BOOT_UNDEPLOY_FAILURE,
    Lcm.BOOT_STOPPED_FAILURE,
)

STOP_ANSWERS: dict[Lcm, tuple[str, Step]] = {
    Lcm.SHUTDOWN: ("SHUTDOWN", active(Lcm.EPILOG, Mark.RUN_END, Mark.EPILOG_START, requests=_EPILOG)),
    Lcm.SHUTDOWN_POWEROFF: ("SHUTDOWN", _rest(VmState.POWEROFF, Mark.RUN_END)),
    Lcm.SHUTDOWN_UNDEPLOY: (
        "SHUTDOWN",
        active(Lcm.EPILOG_UNDEPLOY, Mark.RUN_END, Mark.EPILOG_START, requests=tm("stop")),
    ),
    Lcm.SAVE_SUSPEND: ("SAVE", _rest(VmState.SUSPENDED, Mark.RUN_END)),
    Lcm.SAVE_STOP: ("SAVE", active(Lcm.EPILOG_STOP, Mark.RUN_END, Mark.EPILOG_START, requests=tm("stop"))),
    Lcm.SAVE_MIGRATE: (
        "SAVE",
        active(Lcm.PROLOG_MIGRATE, Mark.PREVIOUS_END, Mark.PROLOG_START, requests=tm("migrate")),
    ),
}
"""LCM state → request it waits for, step when that succeeds. All fail back into RUNNING."""

TRANSFERS: dict[Lcm, tuple[Step, Step]] = {
    Lcm.PROLOG: (
        active(Lcm.BOOT, Mark.PROLOG_END, Mark.RUN_START, requests=vmm("DEPLOY")),
        active(Lcm.PROLOG_FAILURE, Mark.PROLOG_END),
    ),
    Lcm.PROLOG_RESUME: (
        active(Lcm.BOOT_STOPPED, Mark.PROLOG_END, Mark.RUN_START, requests=vmm("RESTORE")),
        active(Lcm.PROLOG_RESUME_FAILURE, Mark.PROLOG_END),
    ),
    Lcm.PROLOG_UNDEPLOY: (
        active(Lcm.BOOT_UNDEPLOY, Mark.PROLOG_END, Mark.RUN_START, requests=vmm("DEPLOY")),
        active(Lcm.PROLOG_UNDEPLOY_FAILURE, Mark.PROLOG_END),
    ),
    Lcm.PROLOG_MIGRATE: (
        active(Lcm.BOOT_MIGRATE, Mark.PROLOG_END, Mark.RUN_START, requests=vmm("RESTORE")),
        active(Lcm.PROLOG_MIGRATE_FAILURE, Mark.PROLOG_END),
    ),
    Lcm.PROLOG_MIGRATE_POWEROFF: (
        _rest(VmState.POWEROFF, Mark.PROLOG_END),
        active(Lcm.PROLOG_MIGRATE_POWEROFF_FAILURE, Mark.PROLOG_END),
    ),
    Lcm.PROLOG_MIGRATE_SUSPEND: (
        _rest(VmState.SUSPENDED, Mark.PROLOG_END),
        active(Lcm.PROLOG_MIGRATE_SUSPEND_FAILURE, Mark.PROLOG_END),
    ),
    Lcm.PROLOG_MIGRATE_UNKNOWN: (
        active(Lcm.BOOT, Mark.PROLOG_END, Mark.RUN_START, requests=vmm("DEPLOY")),
        active(Lcm.PROLOG_MIGRATE_UNKNOWN_FAILURE, Mark.PROLOG_END),
    ),
    Lcm.EPILOG: (_rest(VmState.DONE, Mark.EPILOG_END, Mark.CLOSE), active(Lcm.EPILOG_FAILURE)),
    Lcm.EPILOG_STOP: (_rest(VmState.STOPPED, Mark.EPILOG_END, Mark.CLOSE), active(Lcm.EPILOG_STOP_FAILURE)),
    Lcm.EPILOG_UNDEPLOY: (
        _rest(VmState.UNDEPLOYED, Mark.EPILOG_END, Mark.CLOSE),
        active(Lcm.EPILOG_UNDEPLOY_FAILURE),
    ),
}
"""LCM state that waits for a transfer script → steps when it succeeds and when it fails."""

HOT: dict[Lcm, tuple[tuple[str, ...], Step]] = {
    Lcm.HOTPLUG: (("ATTACHDISK", "DETACHDISK", "UPDATECONF", "EXEC", "EXEC_CANCEL"), _SETTLED),
    Lcm.HOTPLUG_NIC: (("ATTACHNIC", "DETACHNIC", "UPDATENIC"), _SETTLED),
    Lcm.HOTPLUG_RESIZE: (("RESIZE",), _SETTLED),
    Lcm.DISK_RESIZE: (("RESIZEDISK",), _SETTLED),
    Lcm.HOTPLUG_SNAPSHOT: (("SNAPSHOTCREATE", "SNAPSHOTREVERT", "SNAPSHOTDELETE"), _SETTLED),
    Lcm.DISK_SNAPSHOT: (("DISKSNAPSHOTCREATE",), _SETTLED),
    Lcm.DISK_SNAPSHOT_DELETE: (("TRANSFER",), _SETTLED),
    Lcm.HOTPLUG_SAVEAS: (("TRANSFER",), _SETTLED),
    Lcm.HOTPLUG_SAVEAS_POWEROFF: (("TRANSFER",), _rest(VmState.POWEROFF, settle=True)),
    Lcm.HOTPLUG_SAVEAS_SUSPENDED: (("TRANSFER",), _rest(VmState.SUSPENDED, settle=True)),
    Lcm.HOTPLUG_SAVEAS_UNDEPLOYED: (("TRANSFER",), _rest(VmState.UNDEPLOYED, settle=True)),
    Lcm.HOTPLUG_SAVEAS_STOPPED: (("TRANSFER",), _rest(VmState.STOPPED, settle=True)),
    Lcm.HOTPLUG_PROLOG_POWEROFF: (("TRANSFER",), _rest(VmState.POWEROFF, Mark.RUN_END, settle=True)),
    Lcm.HOTPLUG_EPILOG_POWEROFF: (("TRANSFER",), _rest(VmState.POWEROFF, Mark.RUN_END, settle=True)),
    Lcm.DISK_SNAPSHOT_POWEROFF: (("TRANSFER",), _rest(VmState.POWEROFF, Mark.RUN_END, settle=True)),
    Lcm.DISK_SNAPSHOT_REVERT_POWEROFF: (("TRANSFER",), _rest(VmState.POWEROFF, Mark.RUN_END, settle=True)),
    Lcm.DISK_SNAPSHOT_DELETE_POWEROFF: (("TRANSFER",), _rest(VmState.POWEROFF, Mark.RUN_END, settle=True)),
    Lcm.DISK_SNAPSHOT_SUSPENDED: (("TRANSFER",), _rest(VmState.SUSPENDED, Mark.RUN_END, settle=True)),
    Lcm.DISK_SNAPSHOT_DELETE_SUSPENDED: (("TRANSFER",), _rest(VmState.SUSPENDED, Mark.RUN_END, settle=True)),
    Lcm.DISK_RESIZE_POWEROFF: (("TRANSFER",), _rest(VmState.POWEROFF, Mark.RUN_END, settle=True)),
    Lcm.DISK_RESIZE_UNDEPLOYED: (("TRANSFER",), _rest(VmState.UNDEPLOYED, settle=True)),
}
"""Hot operations: LCM state → messages it waits for, step after either answer."""

_SAME = {"CANCEL": "SHUTDOWN"}
POWEROFF_MIGRATIONS = (48, 49)


def on_answer(message: str, ok: bool, lcm: Lcm, *, record_action: int = 0) -> Step | None:
    """What the answer to a VMM message or ``TRANSFER`` does; None when it is for another state.

    Args:
        message: Message type of the answer.
        ok: SUCCESS or FAILURE.
        lcm: LCM state of the VM now; answers carry no request id, so this alone decides.
        record_action: HISTORY/ACTION of the current record: tells a migration by poweroff from one by save.
    """
    message = _SAME.get(message, message)
    if lcm is Lcm.CLEANUP_RESUBMIT and message in ("CLEANUP", "TRANSFER"):
        return Step(VmState.PENDING)
    if lcm is Lcm.MIGRATE and message == "MIGRATE":
        return active(Lcm.RUNNING, Mark.PREVIOUS_END, Mark.RUN_START) if ok else active(Lcm.RUNNING, Mark.RETURN)
    if lcm in BOOT_ANSWERS and message == BOOT_ANSWERS[lcm][0]:
        return _BOOTED if ok else BOOT_ANSWERS[lcm][1]
    if lcm in STOP_ANSWERS and _fits_stop(message, lcm, record_action):
        if ok:
            return STOP_ANSWERS[lcm][1]
        return active(Lcm.RUNNING, Mark.RETURN) if lcm is Lcm.SAVE_MIGRATE else _BACK
    if message == "TRANSFER" and lcm in TRANSFERS:
        step = TRANSFERS[lcm][0 if ok else 1]
        if ok and lcm is Lcm.PROLOG_MIGRATE and record_action in POWEROFF_MIGRATIONS:
            return replace(step, lcm=Lcm.BOOT, requests=vmm("DEPLOY"))
        return step
    if lcm in HOT and message in HOT[lcm][0]:
        return HOT[lcm][1]
    return None


def _fits_stop(message: str, lcm: Lcm, record_action: int) -> bool:
    if lcm is Lcm.SAVE_MIGRATE and record_action in POWEROFF_MIGRATIONS:
        return message == "SHUTDOWN"
    return message == STOP_ANSWERS[lcm][0]


HARD_FROM = {"terminate": Lcm.SHUTDOWN, "poweroff": Lcm.SHUTDOWN_POWEROFF, "undeploy": Lcm.SHUTDOWN_UNDEPLOY}
_RESUMES: dict[tuple[VmState, Lcm], Step] = {
    (VmState.POWEROFF, Lcm.LCM_INIT): active(
        Lcm.BOOT_POWEROFF, Mark.CLOSE, Mark.OPEN, Mark.ACTION, Mark.RUN_START, requests=vmm("DEPLOY")
    ),
    (VmState.SUSPENDED, Lcm.LCM_INIT): active(
        Lcm.BOOT_SUSPENDED, Mark.CLOSE, Mark.OPEN, Mark.ACTION, Mark.RUN_START, requests=vmm("RESTORE")
    ),
    (VmState.ACTIVE, Lcm.UNKNOWN): active(Lcm.BOOT_UNKNOWN, Mark.ACTION, requests=vmm("DEPLOY")),
    (VmState.STOPPED, Lcm.LCM_INIT): Step(VmState.PENDING),
    (VmState.UNDEPLOYED, Lcm.LCM_INIT): Step(VmState.PENDING),
}


def on_action(action: str, state: VmState, lcm: Lcm) -> Step:
    """What ``one.vm.action`` does.

    Raises:
        WrongStateError: The action is not possible in this state.
    """
    name, hard = action.removesuffix("-hard"), action.endswith("-hard")
    running = state is VmState.ACTIVE and lcm in (Lcm.RUNNING, Lcm.UNKNOWN)
    step: Step | None = None
    if name in HARD_FROM:
        step = _stop_action(name, hard, state, lcm, running)
    elif name == "suspend" and lcm is Lcm.RUNNING:
        step = active(Lcm.SAVE_SUSPEND, Mark.ACTION, requests=vmm("SAVE"))
    elif name == "stop" and lcm is Lcm.RUNNING:
        step = active(Lcm.SAVE_STOP, Mark.ACTION, requests=vmm("SAVE"))
    elif name == "stop" and state is VmState.SUSPENDED:
        step = active(Lcm.EPILOG_STOP, Mark.ACTION, Mark.EPILOG_START, requests=tm("stop"))
    elif name == "resume":
        step = _RESUMES.get((state, lcm))
    elif name == "reboot" and lcm is Lcm.RUNNING:
        step = active(Lcm.RUNNING, requests=vmm("RESET" if hard else "REBOOT"))
    elif action == "hold" and state is VmState.PENDING:
        step = Step(VmState.HOLD)
    elif action == "release" and state is VmState.HOLD:
        step = Step(VmState.PENDING)
    if step is None:
        raise WrongStateError
    return step


def _stop_action(name: str, hard: bool, state: VmState, lcm: Lcm, running: bool) -> Step | None:
    target = HARD_FROM[name]
    if running:
        return active(target, Mark.ACTION, requests=vmm("CANCEL" if hard else "SHUTDOWN"))
    if hard and lcm is target:
        return active(target, Mark.ACTION, requests=vmm("DRIVER_CANCEL", "CANCEL"))
    if name == "undeploy" and state is VmState.POWEROFF:
        return active(Lcm.EPILOG_UNDEPLOY, Mark.ACTION, Mark.EPILOG_START, requests=tm("stop"))
    if name != "terminate":
        return None
    if state in (VmState.POWEROFF, VmState.SUSPENDED):
        return active(Lcm.EPILOG, Mark.ACTION, Mark.EPILOG_START, requests=_EPILOG)
    if state in (VmState.STOPPED, VmState.UNDEPLOYED):
        return active(Lcm.EPILOG, Mark.ACTION, requests=tm("epilog_stopped"))
    if state in (VmState.PENDING, VmState.HOLD, VmState.CLONING, VmState.CLONING_FAILURE):
        return _DONE
    return None


def on_report(reported: str, state: VmState, lcm: Lcm) -> Step | None:
    """What a STATE_VM entry does (protocol reference 5.6, rule 4); None when it is ignored."""
    match reported:
        case "RUNNING":
            if state in (VmState.POWEROFF, VmState.SUSPENDED):
                return active(Lcm.RUNNING, Mark.CLOSE, Mark.OPEN, Mark.CLEAR_ACTION, Mark.RUN_START)
            if lcm is Lcm.UNKNOWN:
                return active(Lcm.RUNNING)
            if lcm in BOOT_ANSWERS or lcm in BOOT_FAILURES:
                return _BOOTED
        case "POWEROFF":
            if lcm in (Lcm.RUNNING, Lcm.UNKNOWN):
                return _rest(VmState.POWEROFF, Mark.MONITOR_ACTION, Mark.RUN_END)
            if lcm in HARD_FROM.values():
                return STOP_ANSWERS[lcm][1]
        case "SUSPENDED" if lcm in (Lcm.RUNNING, Lcm.UNKNOWN):
            return _rest(VmState.SUSPENDED, Mark.MONITOR_ACTION, Mark.RUN_END)
        case "FAILURE" if lcm is Lcm.RUNNING:
            return active(Lcm.UNKNOWN)
    return None
