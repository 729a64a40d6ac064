"""The ``one.vm.*`` calls that change disks, capacity, snapshots and configuration."""

import time

from onedock.lab.opennebula import hot_actions, hotplug, lcm
from onedock.lab.opennebula.api_vms import VmApi, parsed, wrong_state
from onedock.lab.opennebula.disks import DiskError
from onedock.lab.opennebula.hotplug import HotplugError
from onedock.lab.opennebula.instantiate import InstantiateError
from onedock.lab.opennebula.objects import Vm
from onedock.lab.opennebula.oned import Oned
from onedock.lab.opennebula.states import ImageType, VmState
from onedock.lab.opennebula.store import Store
from onedock.lab.opennebula.templates import Vector, get, vectors
from onedock.lab.opennebula.xmlrpc import ACTION, ApiError, Method

_PLAIN_UPDATE = (VmState.POWEROFF, VmState.PENDING, VmState.HOLD, VmState.UNDEPLOYED)


class HotplugApi:
    """Calls that change a VM while it lives.

    Args:
        oned: Does the work.
        vms: Finds VMs.
    """

    def __init__(self, oned: Oned, vms: VmApi) -> None:
        self._oned = oned
        self._store: Store = oned.store
        self._vms = vms

    def methods(self) -> dict[str, Method]:
        """Method name → function."""
        return {
            "one.vm.attach": self.attach,
            "one.vm.detach": self.detach,
            "one.vm.resize": self.resize,
            "one.vm.diskresize": self.resize_disk,
            "one.vm.snapshotcreate": self.snapshot_create,
            "one.vm.snapshotrevert": self.snapshot_revert,
            "one.vm.snapshotdelete": self.snapshot_delete,
            "one.vm.disksnapshotcreate": self.disk_snapshot_create,
            "one.vm.disksnapshotrevert": self.disk_snapshot_revert,
            "one.vm.disksnapshotdelete": self.disk_snapshot_delete,
            "one.vm.disksaveas": self.disk_save_as,
            "one.vm.updateconf": self.update_configuration,
            "one.vm.exec": self.execute,
        }

    def _step(self, vm: Vm, action: str) -> lcm.Step:
        try:
            return hot_actions.on_hot_action(action, vm.state, vm.lcm_state)
        except lcm.WrongStateError:
            raise wrong_state(action, vm) from None

    def _asked(self, template: str, kind: str, vm: Vm) -> Vector:
        found = vectors(parsed(template), kind)
        if not found:
            raise ApiError(ACTION, f"{kind} is missing in the template", vm.id)
        return found[0]

    def attach(self, number: int, template: str) -> int:
        """``one.vm.attach``."""
        vm = self._vms.vm(number)
        step = self._step(vm, "disk-attach")
        asked = self._asked(template, "DISK", vm)
        try:
            hotplug.attach_disk(self._store, vm, asked)
        except (InstantiateError, DiskError) as error:
            raise ApiError(ACTION, str(error), number) from error
        self._oned.apply(vm, step, action="disk-attach")
        return number

    def detach(self, number: int, disk_id: int) -> int:
        """``one.vm.detach``."""
        vm = self._vms.vm(number)
        step = self._step(vm, "disk-detach")
        self._find(vm, ("DISK",), "DISK_ID", disk_id)["ATTACH"] = "YES"
        self._oned.apply(vm, step, action="disk-detach")
        return number

    def _find(self, vm: Vm, kinds: tuple[str, ...], key: str, number: int) -> Vector:
        try:
            return hotplug.find(vm, kinds, key, number)
        except HotplugError as error:
            raise ApiError(ACTION, str(error), vm.id) from error

    def resize(self, number: int, template: str, _enforce: bool = False) -> int:
        """``one.vm.resize``: only the template while the VM does not run."""
        vm = self._vms.vm(number)
        wanted = parsed(template)
        if vm.state in _PLAIN_UPDATE:
            for key in ("CPU", "MEMORY", "VCPU"):
                if get(wanted, key):
                    vm.template[key] = [get(wanted, key)]
            self._store.save(vm)
            return number
        step = self._step(vm, "resize")
        hotplug.resize(vm, wanted)
        self._oned.apply(vm, step, action="resize")
        return number

    def resize_disk(self, number: int, disk_id: int, size: str) -> int:
        """``one.vm.diskresize``; size in MB."""
        vm = self._vms.vm(number)
        step = self._step(vm, "disk-resize")
        self._find(vm, ("DISK",), "DISK_ID", disk_id)
        hotplug.resize_disk(vm, disk_id, size)
        self._oned.apply(vm, step, action="disk-resize")
        return number

    def snapshot_create(self, number: int, name: str) -> int:
        """``one.vm.snapshotcreate``: the snapshot's id."""
        vm = self._vms.vm(number)
        step = self._step(vm, "snapshot-create")
        snapshot = hotplug.create_snapshot(vm, name, int(time.time()))
        self._oned.apply(vm, step)
        return snapshot

    def _snapshot(self, number: int, snapshot: int, action: str) -> int:
        vm = self._vms.vm(number)
        step = self._step(vm, f"snapshot-{action.lower()}")
        self._find(vm, ("SNAPSHOT",), "SNAPSHOT_ID", snapshot)
        hotplug.mark_snapshot(vm, snapshot, action)
        self._oned.apply(vm, step)
        return number

    def snapshot_revert(self, number: int, snapshot: int) -> int:
        """``one.vm.snapshotrevert``."""
        return self._snapshot(number, snapshot, "REVERT")

    def snapshot_delete(self, number: int, snapshot: int) -> int:
        """``one.vm.snapshotdelete``."""
        return self._snapshot(number, snapshot, "DELETE")

    def disk_snapshot_create(self, number: int, disk_id: int, name: str) -> int:
        """``one.vm.disksnapshotcreate``: the snapshot's id."""
        vm = self._vms.vm(number)
        step = self._step(vm, "disk-snapshot-create")
        self._find(vm, ("DISK",), "DISK_ID", disk_id)
        snapshot = hotplug.create_disk_snapshot(vm, disk_id, name, int(time.time()))
        self._oned.apply(vm, step, action="disk-snapshot-create")
        return snapshot

    def _disk_snapshot(self, number: int, disk_id: int, snapshot: int, action: str) -> int:
        vm = self._vms.vm(number)
        step = self._step(vm, action)
        try:
            hotplug.mark_disk_snapshot(vm, disk_id, snapshot)
        except HotplugError as error:
            raise ApiError(ACTION, str(error), number) from error
        self._oned.apply(vm, step, action=action)
        return snapshot

    def disk_snapshot_revert(self, number: int, disk_id: int, snapshot: int) -> int:
        """``one.vm.disksnapshotrevert``."""
        return self._disk_snapshot(number, disk_id, snapshot, "disk-snapshot-revert")

    def disk_snapshot_delete(self, number: int, disk_id: int, snapshot: int) -> int:
        """``one.vm.disksnapshotdelete``."""
        return self._disk_snapshot(number, disk_id, snapshot, "disk-snapshot-delete")

    def disk_save_as(
        self, number: int, disk_id: int, name: str, kind: str = "", snapshot: int = -1, _ds: int = -1
    ) -> int:
        """``one.vm.disksaveas``: the new image's id."""
        vm = self._vms.vm(number)
        try:
            image = self._oned.save_disk(vm, disk_id, name, snapshot)
        except HotplugError as error:
            raise ApiError(ACTION, str(error), number) from error
        except lcm.WrongStateError:
            raise wrong_state("disk-saveas", vm) from None
        if kind.upper() in ImageType.__members__:
            image.type = ImageType[kind.upper()]
        self._store.save(image)
        return image.id

    def update_configuration(self, number: int, template: str, append: int = 0) -> int:
        """``one.vm.updateconf``."""
        vm = self._vms.vm(number)
        wanted = parsed(template)
        step = None if vm.state in _PLAIN_UPDATE else self._step(vm, "updateconf")
        changed = hotplug.update_configuration(self._store, vm, wanted, append=bool(append))
        if step is None or not changed:
            self._store.save(vm)
        else:
            self._oned.apply(vm, step)
        return number

    def execute(self, number: int, command: str, stdin: str = "") -> int:
        """``one.vm.exec``."""
        vm = self._vms.vm(number)
        step = self._step(vm, "exec")
        vm.template["QEMU_GA_EXEC"] = [{"COMMAND": command, "STDIN": stdin}]
        self._oned.apply(vm, step, action="exec")
        return number
