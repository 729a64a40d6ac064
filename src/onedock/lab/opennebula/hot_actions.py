"""What operations on disks, NICs, capacity and snapshots do in each state (protocol reference 9.2). Pure."""

from onedock.lab.opennebula.lcm import Mark, Step, WrongStateError, active, tm, vmm
from onedock.lab.opennebula.states import LcmState as Lcm
from onedock.lab.opennebula.states import VmState

_REOPEN_RUNNING: tuple[Mark, ...] = (Mark.ACTION, Mark.RUN_END, Mark.CLOSE, Mark.OPEN, Mark.RUN_START)
_REOPEN_RESTING: tuple[Mark, ...] = (Mark.ACTION, Mark.CLOSE, Mark.OPEN, Mark.RUN_START)

_HOT_ACTIONS: dict[str, tuple[Lcm, str, bool]] = {
    "disk-attach": (Lcm.HOTPLUG, "ATTACHDISK", True),
    "disk-detach": (Lcm.HOTPLUG, "DETACHDISK", True),
    "nic-attach": (Lcm.HOTPLUG_NIC, "ATTACHNIC", True),
    "nic-detach": (Lcm.HOTPLUG_NIC, "DETACHNIC", True),
    "alias-attach": (Lcm.HOTPLUG_NIC, "ATTACHNIC", True),
    "alias-detach": (Lcm.HOTPLUG_NIC, "DETACHNIC", True),
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
