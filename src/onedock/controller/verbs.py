"""What oned's verbs mean for the desired state of a VM. Pure. Called by ``requests`` and ``worker``.

Sources: protocol reference 2.3 (actions and the LCM states they are sent in), architecture section 6.
"""

from dataclasses import replace
from enum import Enum

from onedock.controller.oned import LCM_STATE, VM_STATE
from onedock.reconcilers.model import Container, Desired, Network, NodeName, Phase, Power, VmId, VmSpec

NETWORK_CHANGES = frozenset({"ATTACHNIC", "DETACHNIC", "UPDATENIC", "UPDATESG", "UPDATECONF"})
"""The network of a VM changes while it runs; its container does not."""
SUPPORTED = NETWORK_CHANGES | frozenset({
    "DEPLOY", "RESTORE", "SAVE", "SHUTDOWN", "CANCEL", "REBOOT", "RESET", "CLEANUP",
})  # fmt: skip
KNOWN = SUPPORTED | frozenset({
    "MIGRATE", "ATTACHDISK", "DETACHDISK", "RESIZE", "RESIZEDISK", "SNAPSHOTCREATE", "SNAPSHOTREVERT",
    "SNAPSHOTDELETE", "DISKSNAPSHOTCREATE", "BACKUP", "BACKUPCANCEL", "EXEC", "EXEC_CANCEL",
})  # fmt: skip
SILENT = frozenset({"REBOOT", "RESET", "BACKUPCANCEL"})
"""Actions whose answer has no handler in oned (protocol reference 2.3 and trap 7)."""

_BOOTING = frozenset({LCM_STATE.BOOT, LCM_STATE.BOOT_POWEROFF, LCM_STATE.BOOT_UNKNOWN, LCM_STATE.BOOT_SUSPENDED})
_STOPPING = frozenset({LCM_STATE.SHUTDOWN, LCM_STATE.SHUTDOWN_POWEROFF})
_NO_ID = 2**31 - 1
"""Negative ones would not do: a failure that begins with a dash is not shown to users (protocol reference 1.2)."""


class Need(Enum):
    """What must be known before a verb can be turned into a desired state."""

    SPEC = "spec"
    """The VM's spec from the message: it is to run."""
    CONTAINER = "container"
    """The container as it is: which run is to be restarted."""
    NOTHING = "nothing"


NEEDS = {
    "DEPLOY": Need.SPEC,
    "RESTORE": Need.SPEC,
    "REBOOT": Need.CONTAINER,
    "RESET": Need.CONTAINER,
    "SHUTDOWN": Need.NOTHING,
    "CANCEL": Need.NOTHING,
    "CLEANUP": Need.NOTHING,
}


def refusal(action: str, lcm_state: int) -> str:
    """Why a request cannot be served in this release; empty when it can. The VM keeps running."""
    if action not in SUPPORTED:
        return f"not supported yet: ONEDock has no {action} in this release; the VM was not touched"
    if action in {"DEPLOY", "RESTORE"} and lcm_state not in _BOOTING:
        return f"not supported yet: {action} in {_lcm_name(lcm_state)} (migration, stop and undeploy)"
    if action in {"SHUTDOWN", "CANCEL"} and lcm_state not in _STOPPING:
        return f"not supported yet: {action} in {_lcm_name(lcm_state)} (migration and undeploy); use poweroff"
    if action == "SAVE" and lcm_state != LCM_STATE.SAVE_SUSPEND:
        return f"not supported yet: SAVE in {_lcm_name(lcm_state)} (stop and migration); use poweroff"
    return ""


def _lcm_name(lcm_state: int) -> str:
    try:
        return str(LCM_STATE(lcm_state).name)
    except ValueError:
        return f"LCM state {lcm_state}"


def first_word(action: str, *, security_group: str = "", virtual_network: str = "") -> str:
    """What oned must find at the begin of an answer, good or bad, or the VM hangs (protocol reference trap 6).

    An id that could not be read is replaced by one that nothing has: oned then goes on with the VM alone.
    """
    if action == "UPDATESG":
        return f"{security_group or _NO_ID} "
    if action == "UPDATENIC":
        return f"{virtual_network or _NO_ID} "
    return ""


def without_first_word(action: str, info: str) -> str:
    """An answer's text as people read it: what only oned needs at its begin is left out."""
    return info.partition(" ")[2] if first_word(action) else info


def to_run(old: Desired | None, spec: VmSpec) -> Desired:
    """DEPLOY, RESTORE: the VM runs as its document says."""
    return Desired(vm=spec.vm, node=spec.node, power=Power.RUNNING, generation=_next(old), spec=spec)


def to_stop(old: Desired | None, *, vm: VmId, node: NodeName, grace_s: float | None) -> Desired:
    """SHUTDOWN, CANCEL: the container stops and is kept."""
    spec = old.spec if old is not None else None
    return Desired(vm=vm, node=node, power=Power.STOPPED, generation=_next(old), spec=spec, grace_s=grace_s)


def to_replug(old: Desired, network: Network, notes: tuple[str, ...]) -> Desired:
    """Those of NETWORK_CHANGES: another network for the same container, with what is new to say."""
    assert old.spec is not None, "what is plugged was specified"
    spec = replace(old.spec, network=network, notes=(*old.spec.notes, *notes))
    return replace(old, generation=_next(old), spec=spec)


def to_remove(old: Desired | None, *, vm: VmId, node: NodeName) -> Desired:
    """CLEANUP and the transfer manager's DELETE: nothing is left."""
    return Desired(vm=vm, node=node, power=Power.ABSENT, generation=_next(old))


def to_restart(old: Desired, container: Container | None, *, grace_s: float | None) -> Desired:
    """REBOOT, RESET: the present run ends and another begins. Of a container that does not run: nothing."""
    if container is None or container.phase not in {Phase.RUNNING, Phase.PAUSED}:
        return old
    started = container.started_at
    return replace(old, power=Power.RUNNING, generation=_next(old), restart_from=started, grace_s=grace_s)


def after_failed_start(desired: Desired, lcm_state: int) -> Desired:
    """What is left behind when a VM could not be started: of a new VM nothing, else what was there before.

    A VM that oned had lost sight of (BOOT_UNKNOWN) may run all the while: it is not stopped.
    """
    if lcm_state == LCM_STATE.BOOT:
        return replace(desired, power=Power.ABSENT, generation=desired.generation + 1, spec=None)
    if lcm_state == LCM_STATE.BOOT_UNKNOWN:
        return replace(desired, generation=desired.generation + 1)
    return replace(desired, power=Power.STOPPED, generation=desired.generation + 1)


def still_waits(action: str, *, asked: tuple[int, int], now: tuple[int, int, int]) -> str:
    """Why an answer to ``action`` would be taken for something else; empty when oned still waits for it.

    Args:
        action: oned's word.
        asked: (LCM_STATE, history SEQ) when oned asked.
        now: (STATE, LCM_STATE, history SEQ) as oned says now.
    """
    if action == "UPDATESG":  # the group waits for it, whatever the VM does meanwhile
        return "" if now[0] == VM_STATE.ACTIVE else "the VM is not active any more"
    if action == "CLEANUP":
        return "" if now[1] in {LCM_STATE.CLEANUP_DELETE, LCM_STATE.CLEANUP_RESUBMIT} else "the VM is gone already"
    if now[1:] != asked:
        return (
            f"the VM is in {_lcm_name(now[1])} (history {now[2]}) and no longer in {_lcm_name(asked[0])} ({asked[1]})"
        )
    return ""


def _next(old: Desired | None) -> int:
    return 1 if old is None else old.generation + 1
