"""The ``one.vm.*`` calls that change disks, NICs, capacity, snapshots and configuration, and ``one.secgroup.*``."""

import time

from onedock.lab.opennebula import documents, hot_actions, hotplug, lcm, networks
from onedock.lab.opennebula.api_vms import VmApi, existing, parsed, wrong_state
from onedock.lab.opennebula.disks import DiskError
from onedock.lab.opennebula.hotplug import HotplugError
from onedock.lab.opennebula.instantiate import InstantiateError
from onedock.lab.opennebula.leases import NoLeaseError
from onedock.lab.opennebula.objects import SecurityGroup, Vm
from onedock.lab.opennebula.oned import Oned
from onedock.lab.opennebula.states import ImageType, LcmState, VmState
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
            "one.vm.attachnic": self.attach_nic,
            "one.vm.detachnic": self.detach_nic,
            "one.vm.updatenic": self.update_nic,
            "one.vm.attachsg": self.attach_group,
            "one.vm.detachsg": self.detach_group,
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
            "one.secgroup.allocate": self.group_allocate,
            "one.secgroup.info": self.group_info,
            "one.secgroup.update": self.group_update,
            "one.secgroup.commit": self.group_commit,
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

    def attach_nic(self, number: int, template: str) -> int:
        """``one.vm.attachnic``; a powered-off VM only changes its template (COLD_NIC_ATTACH is off)."""
        vm = self._vms.vm(number)
        asked = self._asked(template, "NIC", vm)
        step = None if vm.state is VmState.POWEROFF else self._step(vm, "nic-attach")
        try:
            hotplug.attach_nic(self._store, vm, asked)
        except (InstantiateError, NoLeaseError) as error:
            raise ApiError(ACTION, str(error), number) from error
        self._apply_nic(vm, step, "nic-attach", "ATTACHNIC")
        return number

    def detach_nic(self, number: int, nic_id: int) -> int:
        """``one.vm.detachnic``."""
        vm = self._vms.vm(number)
        step = None if vm.state is VmState.POWEROFF else self._step(vm, "nic-detach")
        self._find(vm, ("NIC", "NIC_ALIAS"), "NIC_ID", nic_id)
        hotplug.detach_nic(self._store, vm, nic_id)
        self._apply_nic(vm, step, "nic-detach", "DETACHNIC")
        return number

    def _apply_nic(self, vm: Vm, step: lcm.Step | None, action: str, message: str) -> None:
        if step is not None:
            self._oned.apply(vm, step, action=action)
            return
        hotplug.settle(self._store, vm, message, vm.lcm_state, ok=True, info="-")
        self._store.save(vm)

    def update_nic(self, number: int, nic_id: int, template: str, _append: int = 0) -> int:
        """``one.vm.updatenic``."""
        vm = self._vms.vm(number)
        step = self._step(vm, "nic-update")
        changes = self._asked(template, "NIC", vm)
        self._find(vm, ("NIC", "NIC_ALIAS"), "NIC_ID", nic_id)
        network = hotplug.update_nic(vm, nic_id, changes)
        self._oned.apply(vm, step, action="nic-update", about=str(network))
        return number

    def attach_group(self, number: int, nic_id: int, group_id: int) -> int:
        """``one.vm.attachsg``."""
        existing(self._store.security_groups.get(group_id), "security group", group_id)
        return self._change_groups(number, nic_id, group_id, add=True)

    def detach_group(self, number: int, nic_id: int, group_id: int) -> int:
        """``one.vm.detachsg``."""
        return self._change_groups(number, nic_id, group_id, add=False)

    def _change_groups(self, number: int, nic_id: int, group_id: int, *, add: bool) -> int:
        vm = self._vms.vm(number)
        nic = self._find(vm, ("NIC", "NIC_ALIAS"), "NIC_ID", nic_id)
        groups = {int(text) for text in nic["SECURITY_GROUPS"].split(",") if text}
        groups = groups | {group_id} if add else groups - {group_id}
        nic["SECURITY_GROUPS"] = ",".join(str(group) for group in sorted(groups))
        networks.set_rules(vm, self._store.security_groups.objects)
        self._send_group(vm, group_id)
        return number

    def _send_group(self, vm: Vm, group_id: int) -> None:
        self._store.save(vm)
        if vm.lcm_state is LcmState.RUNNING:
            self._oned.send(vm, lcm.Request("vmm", "UPDATESG"), about=str(group_id))

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
        hotplug.update_configuration(self._store, vm, wanted, append=bool(append))
        if step is None:
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

    def group_allocate(self, template: str) -> int:
        """``one.secgroup.allocate``."""
        attributes = parsed(template)
        number = self._store.new_id(self._store.security_groups)
        name = get(attributes, "NAME") or f"group-{number}"
        attributes.pop("NAME", None)
        self._store.save(SecurityGroup(number, name, attributes))
        return number

    def _group(self, number: int) -> SecurityGroup:
        return existing(self._store.security_groups.get(number), "security group", number)

    def group_info(self, number: int, _decrypt: bool = False) -> str:
        """``one.secgroup.info``."""
        return documents.security_group(self._group(number))

    def group_update(self, number: int, template: str, append: int = 0) -> int:
        """``one.secgroup.update``: the new rules go to running VMs at once."""
        group = self._group(number)
        attributes = parsed(template)
        group.template = group.template | attributes if append else attributes
        self._store.save(group)
        return self.group_commit(number)

    def group_commit(self, number: int, _recover: bool = False) -> int:
        """``one.secgroup.commit``."""
        self._group(number)
        for vm in list(self._store.vms.objects.values()):
            if vm.state is not VmState.DONE and number in networks.used_groups(vm):
                networks.set_rules(vm, self._store.security_groups.objects)
                self._send_group(vm, number)
        return number
