"""What ``one.vm.recover`` does in each life-cycle state (protocol reference 9.3). Pure."""

from onedock.lab.opennebula.lcm import (
    BOOT_ANSWERS,
    HARD_FROM,
    HOT,
    POWEROFF_MIGRATIONS,
    STOP_ANSWERS,
    TRANSFERS,
    Mark,
    Step,
    active,
    tm,
    vmm,
)
from onedock.lab.opennebula.states import LcmState as Lcm
from onedock.lab.opennebula.states import VmState

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
    if lcm in BOOT_ANSWERS:
        return active(lcm, requests=vmm(BOOT_ANSWERS[lcm][0]))
    if lcm in HARD_FROM.values():
        return active(lcm, requests=vmm("SHUTDOWN" if record_action in _TERMINATES else "CANCEL"))
    if lcm in STOP_ANSWERS:
        return active(lcm, requests=vmm("SAVE"))
    if lcm is Lcm.MIGRATE:
        return active(lcm, requests=vmm("MIGRATE"))
    for failed, (again, suffix) in _TRANSFER_RETRIES.items():
        if lcm in (failed, again):
            return active(again, requests=tm(suffix))
    return None


def awaited(lcm: Lcm, record_action: int = 0) -> str | None:
    """Message that a VM in this LCM state waits for: what ``recover --success`` and ``--failure`` answer."""
    if lcm in BOOT_ANSWERS:
        return BOOT_ANSWERS[lcm][0]
    if lcm in STOP_ANSWERS:
        poweroff = lcm is Lcm.SAVE_MIGRATE and record_action in POWEROFF_MIGRATIONS
        return "SHUTDOWN" if poweroff else STOP_ANSWERS[lcm][0]
    if lcm in HOT:
        return HOT[lcm][0][0]
    if lcm in TRANSFERS:
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
    transferring = lcm in TRANSFERS or lcm in _TRANSFER_RETRIES or (lcm in HOT and HOT[lcm][0] == ("TRANSFER",))
    if transferring:
        migrating = "MIGRATE" in lcm.name
        return active(target, *marks, requests=tm("delete_both" if migrating else "delete"))
    return active(target, *marks, requests=vmm("DRIVER_CANCEL", "CLEANUP"))
