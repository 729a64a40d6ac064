"""Operations on a running VM: what they mark in the template, and what becomes of the marks (reference 2.2)."""

from onedock.lab.opennebula import context, disks, instantiate, nics
from onedock.lab.opennebula.objects import DiskSnapshots, Vm
from onedock.lab.opennebula.states import LcmState
from onedock.lab.opennebula.store import Store
from onedock.lab.opennebula.templates import Template, Vector, get, vectors

UPDATECONF = ("OS", "FEATURES", "INPUT", "GRAPHICS", "VIDEO", "RAW", "CPU_MODEL", "CONTEXT", "BACKUP_CONFIG")


class HotplugError(Exception):
    """The operation names something the VM does not have; the message is what oned answers."""


def find(vm: Vm, kinds: tuple[str, ...], key: str, number: int) -> Vector:
    """The vector of one of these kinds with that number.

    Raises:
        HotplugError: There is none.
    """
    for kind in kinds:
        for vector in vectors(vm.template, kind):
            if vector.get(key) == str(number):
                return vector
    raise HotplugError(f"{kinds[0]} {number} does not exist in virtual machine {vm.id}")


def remove(vm: Vm, kind: str, gone: Vector) -> None:
    """Takes one vector out of the template."""
    vm.template[kind] = [value for value in vm.template[kind] if value is not gone]
    if not vm.template[kind]:
        del vm.template[kind]


def attach_disk(store: Store, vm: Vm, asked: Vector) -> None:
    """A new disk, marked."""
    disk = instantiate.new_disk(store, vm, asked, disks.next_disk_id(vm))
    if "IMAGE_ID" not in disk:
        disks.place_volatile(disk, store.datastores.objects[vm.record.ds_id])
    disk |= {"ATTACH": "YES", "TM_MAD_SYSTEM": get(vm.template, "TM_MAD_SYSTEM")}
    vm.template.setdefault("DISK", []).append(disk)
    disks.give_targets(vm, store.images.objects)


def resize(vm: Vm, wanted: Template) -> None:
    """New capacity, with the old one in RESIZE."""
    vm.template["RESIZE"] = [{key: get(vm.template, key) for key in ("CPU", "MEMORY", "VCPU")}]
    for key in ("CPU", "MEMORY", "VCPU"):
        if get(wanted, key):
            vm.template[key] = [get(wanted, key)]


def resize_disk(vm: Vm, number: int, size: str) -> None:
    """A disk with its new size, marked."""
    disk = find(vm, ("DISK",), "DISK_ID", number)
    disk |= {"RESIZE": "YES", "SIZE": size, "SIZE_PREV": disk["SIZE"]}


def create_snapshot(vm: Vm, name: str, now: int) -> int:
    """A new VM snapshot, marked; returns its id."""
    taken = [int(snapshot["SNAPSHOT_ID"]) for snapshot in vectors(vm.template, "SNAPSHOT")]
    number = max(taken, default=-1) + 1
    snapshot = {
        "ACTION": "CREATE",
        "ACTIVE": "YES",
        "HYPERVISOR_ID": "",
        "NAME": name or f"snapshot-{number}",
        "SNAPSHOT_ID": str(number),
        "SYSTEM_DISK_SIZE": get(vm.template, "MEMORY"),
        "TIME": str(now),
    }
    vm.template.setdefault("SNAPSHOT", []).append(snapshot)
    return number


def mark_snapshot(vm: Vm, number: int, action: str) -> None:
    """The VM snapshot that REVERT or DELETE is about."""
    find(vm, ("SNAPSHOT",), "SNAPSHOT_ID", number).update({"ACTION": action, "ACTIVE": "YES"})


def snapshots_of(vm: Vm, disk_id: int) -> DiskSnapshots | None:
    """The snapshot tree of a disk."""
    return next((tree for tree in vm.snapshots if tree.disk_id == disk_id), None)


def create_disk_snapshot(vm: Vm, disk_id: int, name: str, now: int) -> int:
    """A new disk snapshot, marked; returns its id."""
    disk = find(vm, ("DISK",), "DISK_ID", disk_id)
    tree = snapshots_of(vm, disk_id)
    if tree is None:
        tree = DiskSnapshots(disk_id, allow_orphans=disk.get("ALLOW_ORPHANS", "NO"))
        vm.snapshots.append(tree)
    number = tree.next_snapshot
    tree.next_snapshot += 1
    tree.snapshots.append(
        {"DATE": str(now), "ID": str(number), "NAME": name, "PARENT": str(tree.current_base), "SIZE": disk["SIZE"]}
    )
    _mark_disk_snapshot(disk, tree, number)
    return number


def mark_disk_snapshot(vm: Vm, disk_id: int, number: int) -> None:
    """The disk snapshot that a revert or delete is about.

    Raises:
        HotplugError: There is no such disk or snapshot.
    """
    disk = find(vm, ("DISK",), "DISK_ID", disk_id)
    tree = snapshots_of(vm, disk_id)
    if tree is None or all(snapshot["ID"] != str(number) for snapshot in tree.snapshots):
        raise HotplugError(f"Snapshot {number} of disk {disk_id} does not exist in virtual machine {vm.id}")
    _mark_disk_snapshot(disk, tree, number)


def _mark_disk_snapshot(disk: Vector, tree: DiskSnapshots, number: int) -> None:
    disk |= {"DISK_SNAPSHOT_ACTIVE": "YES", "DISK_SNAPSHOT_ID": str(number)}
    disk["DISK_SNAPSHOT_TOTAL_SIZE"] = str(sum(int(snapshot["SIZE"]) for snapshot in tree.snapshots))


def update_configuration(store: Store, vm: Vm, wanted: Template, *, append: bool) -> bool:
    """``one.vm.updateconf``: replaces all that it may change (what is not given goes), or merges.

    Returns whether the context is another one, which is all that a running VM is told of.
    """
    old_context = next(iter(vectors(vm.template, "CONTEXT")), None)
    for name in UPDATECONF:
        if name in wanted:
            given, before = vectors(wanted, name), vectors(vm.template, name)
            merged = dict(before[0]) | given[0] if append and before else dict(given[0])
            vm.template[name] = [merged]
        elif not append:
            vm.template.pop(name, None)
    for new in vectors(vm.template, "CONTEXT"):
        if old_context:
            new |= {key: old_context[key] for key in ("DISK_ID", "TARGET")}
        else:
            new["DISK_ID"] = str(disks.next_disk_id(vm))
    disks.give_targets(vm, store.images.objects)
    context.refresh(vm, store.networks.objects)
    return next(iter(vectors(vm.template, "CONTEXT")), None) != old_context


_OF_STATE = {
    LcmState.HOTPLUG_PROLOG_POWEROFF: "ATTACHDISK",
    LcmState.HOTPLUG_EPILOG_POWEROFF: "DETACHDISK",
    LcmState.DISK_RESIZE_POWEROFF: "RESIZEDISK",
    LcmState.DISK_RESIZE_UNDEPLOYED: "RESIZEDISK",
    LcmState.DISK_SNAPSHOT_POWEROFF: "DISKSNAPSHOTCREATE",
    LcmState.DISK_SNAPSHOT_SUSPENDED: "DISKSNAPSHOTCREATE",
    LcmState.DISK_SNAPSHOT_REVERT_POWEROFF: "DISKSNAPSHOTREVERT",
    LcmState.DISK_SNAPSHOT_DELETE_POWEROFF: "DISKSNAPSHOTDELETE",
    LcmState.DISK_SNAPSHOT_DELETE_SUSPENDED: "DISKSNAPSHOTDELETE",
    LcmState.DISK_SNAPSHOT_DELETE: "DISKSNAPSHOTDELETE",
}


def settle(store: Store, vm: Vm, message: str, lcm: LcmState, *, ok: bool, info: str) -> None:
    """Takes the marks away: keeps what worked, rolls back what failed.

    Args:
        store: The pools: images and leases may become free.
        vm: The VM.
        message: Message type answered, ``TRANSFER`` for a transfer script.
        lcm: LCM state it was in.
        ok: Whether it worked.
        info: What the driver said.
    """
    match _OF_STATE.get(lcm, message):
        case "ATTACHDISK" | "DETACHDISK" as what:
            _settle_disk(store, vm, keep=ok == (what == "ATTACHDISK"))
        case "ATTACHNIC" | "DETACHNIC" as what:
            nics.settle(store, vm, keep=ok == (what == "ATTACHNIC"))
        case "UPDATENIC" if ok:
            vm.template.pop("VNET_UPDATE", None)
        case "RESIZE":
            _settle_resize(vm, ok)
        case "RESIZEDISK":
            _settle_disk_size(vm, ok)
        case "SNAPSHOTCREATE" | "SNAPSHOTREVERT" | "SNAPSHOTDELETE" as what:
            _settle_snapshot(vm, what, ok, info)
        case "DISKSNAPSHOTCREATE" | "DISKSNAPSHOTREVERT" | "DISKSNAPSHOTDELETE" as what:
            _settle_disk_snapshot(vm, what, ok)
        case "EXEC":
            for command in vectors(vm.template, "QEMU_GA_EXEC"):
                command["STATUS"] = "EXECUTING" if ok else "ERROR"


def _settle_disk(store: Store, vm: Vm, *, keep: bool) -> None:
    for disk in [disk for disk in vectors(vm.template, "DISK") if disk.pop("ATTACH", "") == "YES"]:
        if not keep:
            remove(vm, "DISK", disk)
            instantiate.release_disk(store, vm, disk)


def _settle_resize(vm: Vm, ok: bool) -> None:
    previous = vectors(vm.template, "RESIZE")
    vm.template.pop("RESIZE", None)
    if not ok and previous:
        for key, value in previous[0].items():
            vm.template[key] = [value]


def _settle_disk_size(vm: Vm, ok: bool) -> None:
    for disk in vectors(vm.template, "DISK"):
        if disk.pop("RESIZE", "") == "YES":
            previous = disk.pop("SIZE_PREV")
            disk["SIZE"] = disk["SIZE"] if ok else previous


def _settle_snapshot(vm: Vm, message: str, ok: bool, info: str) -> None:
    for snapshot in [s for s in vectors(vm.template, "SNAPSHOT") if s.pop("ACTIVE", "") == "YES"]:
        snapshot.pop("ACTION")
        if ok and message == "SNAPSHOTCREATE":
            snapshot["HYPERVISOR_ID"] = info.split()[0] if info.split() else ""
        elif ok == (message == "SNAPSHOTDELETE") and message != "SNAPSHOTREVERT":
            remove(vm, "SNAPSHOT", snapshot)


def _settle_disk_snapshot(vm: Vm, message: str, ok: bool) -> None:
    for disk in vectors(vm.template, "DISK"):
        if disk.pop("DISK_SNAPSHOT_ACTIVE", "") != "YES":
            continue
        number = disk.pop("DISK_SNAPSHOT_ID")
        tree = snapshots_of(vm, int(disk["DISK_ID"]))
        if tree is None:
            continue
        if ok and message != "DISKSNAPSHOTDELETE":
            for snapshot in tree.snapshots:
                snapshot.pop("ACTIVE", None)
                if snapshot["ID"] == number:
                    snapshot["ACTIVE"] = "YES"
        elif ok == (message == "DISKSNAPSHOTDELETE") and message != "DISKSNAPSHOTREVERT":
            tree.snapshots = [snapshot for snapshot in tree.snapshots if snapshot["ID"] != number]
        size = sum(int(snapshot["SIZE"]) for snapshot in tree.snapshots)
        disk["DISK_SNAPSHOT_TOTAL_SIZE"] = str(size)
