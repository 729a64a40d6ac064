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


_BOOT_ANSWERS: dict[Lcm, tuple[str, Step]] = {
    Lcm.BOOT: ("DEPLOY", active(Lcm.BOOT_FAILURE, Mark.RUN_END)),
    Lcm.BOOT_POWEROFF: ("DEPLOY", _rest(VmState.POWEROFF, Mark.RUN_END)),
    Lcm.BOOT_UNKNOWN: ("DEPLOY", active(Lcm.UNKNOWN)),
    Lcm.BOOT_UNDEPLOY: ("DEPLOY", active(Lcm.BOOT_UNDEPLOY_FAILURE, Mark.RUN_END)),
    Lcm.BOOT_SUSPENDED: ("RESTORE", _rest(VmState.SUSPENDED, Mark.RUN_END)),
    Lcm.BOOT_STOPPED: ("RESTORE", active(Lcm.BOOT_STOPPED_FAILURE, Mark.RUN_END)),
    Lcm.BOOT_MIGRATE: ("RESTORE", active(Lcm.BOOT_MIGRATE_FAILURE, Mark.RUN_END)),
}
"""LCM state → request it waits for, step when that fails. All succeed into RUNNING."""

_STOP_ANSWERS: dict[Lcm, tuple[str, Step]] = {
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

_TRANSFERS: dict[Lcm, tuple[Step, Step]] = {
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

_HOT: dict[Lcm, tuple[tuple[str, ...], Step]] = {
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
_POWEROFF_MIGRATIONS = (48, 49)


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
    if lcm in _BOOT_ANSWERS and message == _BOOT_ANSWERS[lcm][0]:
        return _BOOTED if ok else _BOOT_ANSWERS[lcm][1]
    if lcm in _STOP_ANSWERS and _fits_stop(message, lcm, record_action):
        if ok:
            return _STOP_ANSWERS[lcm][1]
        return active(Lcm.RUNNING, Mark.RETURN) if lcm is Lcm.SAVE_MIGRATE else _BACK
    if message == "TRANSFER" and lcm in _TRANSFERS:
        step = _TRANSFERS[lcm][0 if ok else 1]
        if ok and lcm is Lcm.PROLOG_MIGRATE and record_action in _POWEROFF_MIGRATIONS:
            return replace(step, lcm=Lcm.BOOT, requests=vmm("DEPLOY"))
        return step
    if lcm in _HOT and message in _HOT[lcm][0]:
        return _HOT[lcm][1]
    return None


def _fits_stop(message: str, lcm: Lcm, record_action: int) -> bool:
    if lcm is Lcm.SAVE_MIGRATE and record_action in _POWEROFF_MIGRATIONS:
        return message == "SHUTDOWN"
    return message == _STOP_ANSWERS[lcm][0]


_HARD_FROM = {"terminate": Lcm.SHUTDOWN, "poweroff": Lcm.SHUTDOWN_POWEROFF, "undeploy": Lcm.SHUTDOWN_UNDEPLOY}
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
    if name in _HARD_FROM:
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
    target = _HARD_FROM[name]
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
            if lcm in _BOOT_ANSWERS or lcm in _BOOT_RETRIES:
                return _BOOTED
        case "POWEROFF":
            if lcm in (Lcm.RUNNING, Lcm.UNKNOWN):
                return _rest(VmState.POWEROFF, Mark.MONITOR_ACTION, Mark.RUN_END)
            if lcm in _HARD_FROM.values():
                return _STOP_ANSWERS[lcm][1]
        case "SUSPENDED" if lcm in (Lcm.RUNNING, Lcm.UNKNOWN):
            return _rest(VmState.SUSPENDED, Mark.MONITOR_ACTION, Mark.RUN_END)
        case "FAILURE" if lcm is Lcm.RUNNING:
            return active(Lcm.UNKNOWN)
    return None


_BOOT_RETRIES: dict[Lcm, Step] = {
    Lcm.BOOT_FAILURE: active(Lcm.BOOT, requests=vmm("DEPLOY")),
    Lcm.BOOT_MIGRATE_FAILURE: active(Lcm.BOOT_MIGRATE, requests=vmm("RESTORE")),
    Lcm.BOOT_UNDEPLOY_FAILURE: active(Lcm.BOOT_UNDEPLOY, requests=vmm("DEPLOY")),
    Lcm.BOOT_STOPPED_FAILURE: active(Lcm.BOOT_STOPPED, requests=vmm("RESTORE")),
}
_TRANSFER_RETRIES = {
    Lcm.PROLOG_FAILURE: (Lcm.PROLOG, "prolog"),
    Lcm.PROLOG_MIGRATE_FAILURE: (Lcm.PROLOG_MIGRATE, "migrate"),
    Lcm.PROLOG_MIGRATE_POWEROFF_FAILURE: (Lcm.PROLOG_MIGRATE_POWEROFF, "migrate"),
    Lcm.PROLOG_MIGRATE_SUSPEND_FAILURE: (Lcm.PROLOG_MIGRATE_SUSPEND, "migrate"),
    Lcm.PROLOG_MIGRATE_UNKNOWN_FAILURE: (Lcm.PROLOG_MIGRATE_UNKNOWN, "migrate"),
    Lcm.PROLOG_RESUME_FAILURE: (Lcm.PROLOG_RESUME, "resume"),
    Lcm.PROLOG_UNDEPLOY_FAILURE: (Lcm.PROLOG_UNDEPLOY, "resume"),
    Lcm.EPILOG_FAILURE: (Lcm.EPILOG, "epilog"),
    Lcm.EPILOG_STOP_FAILURE: (Lcm.EPILOG_STOP, "stop"),
    Lcm.EPILOG_UNDEPLOY_FAILURE: (Lcm.EPILOG_UNDEPLOY, "stop"),
}
"""Failed transfer → the state it is tried again in, suffix of the script. Tried again in that state as well."""

_TERMINATES = (27, 28)


def on_retry(lcm: Lcm, record_action: int = 0) -> Step | None:
    """What ``recover --retry`` does; None when there is nothing to send again."""
    if lcm in _BOOT_RETRIES:
        return _BOOT_RETRIES[lcm]
    if lcm is Lcm.BOOT_UNDEPLOY:  # OpenNebula 7.4 restores here although it deploys after the failure
        return active(lcm, requests=vmm("RESTORE"))
    if lcm in _BOOT_ANSWERS:
        return active(lcm, requests=vmm(_BOOT_ANSWERS[lcm][0]))
    if lcm in _HARD_FROM.values():
        return active(lcm, requests=vmm("SHUTDOWN" if record_action in _TERMINATES else "CANCEL"))
    if lcm in _STOP_ANSWERS:
        return active(lcm, requests=vmm("SAVE"))
    if lcm is Lcm.MIGRATE:
        return active(lcm, requests=vmm("MIGRATE"))
    for failed, (again, suffix) in _TRANSFER_RETRIES.items():
        if lcm in (failed, again):
            return active(again, requests=tm(suffix))
    return None


def awaited(lcm: Lcm, record_action: int = 0) -> str | None:
    """Message that a VM in this LCM state waits for: what ``recover --success`` and ``--failure`` answer."""
    if lcm in _BOOT_ANSWERS:
        return _BOOT_ANSWERS[lcm][0]
    if lcm in _STOP_ANSWERS:
        poweroff = lcm is Lcm.SAVE_MIGRATE and record_action in _POWEROFF_MIGRATIONS
        return "SHUTDOWN" if poweroff else _STOP_ANSWERS[lcm][0]
    if lcm in _HOT:
        return _HOT[lcm][0][0]
    if lcm in _TRANSFERS:
        return "TRANSFER"
    return {Lcm.MIGRATE: "MIGRATE", Lcm.CLEANUP_RESUBMIT: "CLEANUP"}.get(lcm)


def is_failure(lcm: Lcm) -> bool:
    """Whether a request has failed and the VM waits for an operator."""
    return lcm in _BOOT_RETRIES or lcm in _TRANSFER_RETRIES


def on_delete(state: VmState, lcm: Lcm, *, recreate: bool) -> Step:
    """What ``recover --delete`` and ``--delete-recreate`` send; a deleted VM is DONE without waiting (9.3).

    The step leads to CLEANUP_DELETE or CLEANUP_RESUBMIT; the caller makes the deleted VM DONE after the requests.
    """
    target = Lcm.CLEANUP_RESUBMIT if recreate else Lcm.CLEANUP_DELETE
    marks = (Mark.ACTION, Mark.RUN_END, Mark.CLOSE)
    if state in (VmState.STOPPED, VmState.UNDEPLOYED):
        return active(target, *marks, requests=tm("delete_stopped"))
    if state in (VmState.POWEROFF, VmState.SUSPENDED):
        return active(target, *marks, requests=vmm("CLEANUP") if recreate else tm("delete"))
    if state is not VmState.ACTIVE:
        return Step(state if recreate else VmState.DONE)
    transferring = lcm in _TRANSFERS or lcm in _TRANSFER_RETRIES or (lcm in _HOT and _HOT[lcm][0] == ("TRANSFER",))
    if transferring:
        migrating = "MIGRATE" in lcm.name
        return active(target, *marks, requests=tm("delete_both" if migrating else "delete"))
    return active(target, *marks, requests=vmm("DRIVER_CANCEL", "CLEANUP"))


_REOPEN_RUNNING: tuple[Mark, ...] = (Mark.ACTION, Mark.RUN_END, Mark.CLOSE, Mark.OPEN, Mark.RUN_START)
_REOPEN_RESTING: tuple[Mark, ...] = (Mark.ACTION, Mark.CLOSE, Mark.OPEN, Mark.RUN_START)

_HOT_ACTIONS: dict[str, tuple[Lcm, str, bool]] = {
    "disk-attach": (Lcm.HOTPLUG, "ATTACHDISK", True),
    "disk-detach": (Lcm.HOTPLUG, "DETACHDISK", True),
    "nic-attach": (Lcm.HOTPLUG_NIC, "ATTACHNIC", True),
    "nic-detach": (Lcm.HOTPLUG_NIC, "DETACHNIC", True),
    "nic-update": (Lcm.HOTPLUG_NIC, "UPDATENIC", True),
    "resize": (Lcm.HOTPLUG_RESIZE, "RESIZE", True),
    "disk-resize": (Lcm.DISK_RESIZE, "RESIZEDISK", True),
    "snapshot-create": (Lcm.HOTPLUG_SNAPSHOT, "SNAPSHOTCREATE", False),
    "snapshot-revert": (Lcm.HOTPLUG_SNAPSHOT, "SNAPSHOTREVERT", False),
    "snapshot-delete": (Lcm.HOTPLUG_SNAPSHOT, "SNAPSHOTDELETE", False),
    "disk-snapshot-create": (Lcm.DISK_SNAPSHOT, "DISKSNAPSHOTCREATE", True),
    "updateconf": (Lcm.HOTPLUG, "UPDATECONF", False),
    "exec": (Lcm.HOTPLUG, "EXEC", True),
}
"""Operations on a running VM: LCM state, message, whether they open a history record."""

_COLD_ACTIONS: dict[tuple[str, VmState], tuple[Lcm, str]] = {
    ("disk-attach", VmState.POWEROFF): (Lcm.HOTPLUG_PROLOG_POWEROFF, "prolog_attach"),
    ("disk-detach", VmState.POWEROFF): (Lcm.HOTPLUG_EPILOG_POWEROFF, "epilog_detach"),
    ("disk-resize", VmState.POWEROFF): (Lcm.DISK_RESIZE_POWEROFF, "disk_resize"),
    ("disk-resize", VmState.UNDEPLOYED): (Lcm.DISK_RESIZE_UNDEPLOYED, "disk_resize"),
    ("disk-snapshot-create", VmState.POWEROFF): (Lcm.DISK_SNAPSHOT_POWEROFF, "disk_snapshot"),
    ("disk-snapshot-create", VmState.SUSPENDED): (Lcm.DISK_SNAPSHOT_SUSPENDED, "disk_snapshot"),
    ("disk-snapshot-revert", VmState.POWEROFF): (Lcm.DISK_SNAPSHOT_REVERT_POWEROFF, "disk_snapshot"),
    ("disk-snapshot-delete", VmState.POWEROFF): (Lcm.DISK_SNAPSHOT_DELETE_POWEROFF, "disk_snapshot"),
    ("disk-snapshot-delete", VmState.SUSPENDED): (Lcm.DISK_SNAPSHOT_DELETE_SUSPENDED, "disk_snapshot"),
    ("disk-snapshot-delete", VmState.ACTIVE): (Lcm.DISK_SNAPSHOT_DELETE, "disk_snapshot"),
    ("disk-saveas", VmState.ACTIVE): (Lcm.HOTPLUG_SAVEAS, "disk_saveas"),
    ("disk-saveas", VmState.POWEROFF): (Lcm.HOTPLUG_SAVEAS_POWEROFF, "disk_saveas"),
    ("disk-saveas", VmState.SUSPENDED): (Lcm.HOTPLUG_SAVEAS_SUSPENDED, "disk_saveas"),
    ("disk-saveas", VmState.UNDEPLOYED): (Lcm.HOTPLUG_SAVEAS_UNDEPLOYED, "disk_saveas"),
    ("disk-saveas", VmState.STOPPED): (Lcm.HOTPLUG_SAVEAS_STOPPED, "disk_saveas"),
}
"""Operations done by a transfer script: LCM state, suffix of the script."""


def on_hot_action(action: str, state: VmState, lcm: Lcm) -> Step:
    """What an operation on disks, NICs, capacity or snapshots does.

    Raises:
        WrongStateError: The operation is not possible in this state.
    """
    if lcm is Lcm.RUNNING and action in _HOT_ACTIONS:
        target, message, opens = _HOT_ACTIONS[action]
        marks = _REOPEN_RUNNING if opens else ()
        return active(target, *marks, requests=vmm(message))
    if lcm in (Lcm.RUNNING, Lcm.LCM_INIT) and (action, state) in _COLD_ACTIONS:
        target, suffix = _COLD_ACTIONS[action, state]
        reopens = action != "disk-saveas" and state in (VmState.POWEROFF, VmState.SUSPENDED)
        marks = _REOPEN_RESTING if reopens else ()
        return active(target, *marks, requests=tm(suffix))
    raise WrongStateError
