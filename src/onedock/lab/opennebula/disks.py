"""Disks of VMs: from image or volatile, with targets, as oned completes them."""

import string

from onedock.lab.opennebula.objects import Datastore, Image, Vm
from onedock.lab.opennebula.states import ImageState, ImageType
from onedock.lab.opennebula.templates import Vector, get, vectors

_FROM_DATASTORE = ("ALLOW_ORPHANS", "CLONE_TARGET", "LN_TARGET", "PERSISTENT_SNAPSHOTS")
_YES_NO = {True: "YES", False: "NO"}


class DiskError(Exception):
    """The disk cannot be made; the message is what oned answers."""


def image_disk(image: Image, datastore: Datastore, asked: Vector, disk_id: int) -> Vector:
    """A disk made from an image; the image becomes used.

    Raises:
        DiskError: The image is not in a state to be used.
    """
    if image.state not in (ImageState.READY, ImageState.USED) or (image.persistent and image.vms):
        raise DiskError(f"Cannot acquire image {image.id} in state {image.state.name}")
    used = ImageState.USED_PERS if image.persistent else ImageState.USED
    disk = {name: get(datastore.template, name) for name in _FROM_DATASTORE if name in datastore.template}
    disk |= {
        "CLONE": _YES_NO[not image.persistent],
        "CLUSTER_ID": "0",
        "DATASTORE": datastore.name,
        "DATASTORE_ID": str(datastore.id),
        "DEV_PREFIX": get(image.template, "DEV_PREFIX", "sd"),
        "DISK_ID": str(disk_id),
        "DISK_SNAPSHOT_TOTAL_SIZE": "0",
        "DISK_TYPE": "FILE",
        "DRIVER": image.format,
        "FORMAT": image.format,
        "IMAGE": image.name,
        "IMAGE_ID": str(image.id),
        "IMAGE_STATE": str(int(used)),
        "ORIGINAL_SIZE": str(image.size),
        "READONLY": "NO",
        "SAVE": _YES_NO[image.persistent],
        "SIZE": str(image.size),
        "SOURCE": image.source,
        "TM_MAD": datastore.tm_mad,
        "TYPE": "FILE",
    }
    if image.persistent:
        disk["PERSISTENT"] = "YES"
    return disk | {key: text for key, text in asked.items() if key not in ("IMAGE", "IMAGE_UNAME", "SIZE")}


def volatile_disk(asked: Vector, disk_id: int) -> Vector:
    """A disk without image."""
    return {"DEV_PREFIX": "sd"} | asked | {"DISK_ID": str(disk_id)}


def place_volatile(disk: Vector, system: Datastore) -> None:
    """A volatile disk takes the attributes of the system datastore when its VM is deployed."""
    for name in ("ALLOW_ORPHANS", "PERSISTENT_SNAPSHOTS", "DISK_TYPE"):
        disk[name] = get(system.template, name)
    disk |= {"CLUSTER_ID": "0", "DATASTORE": system.name, "DATASTORE_ID": str(system.id), "TM_MAD": system.tm_mad}
    disk["DRIVER"] = disk.get("FORMAT", "raw")


def give_targets(vm: Vm, images: dict[int, Image]) -> None:
    """Names devices: operating systems first, then the context disk, then the rest."""
    disks = vectors(vm.template, "DISK")

    def is_system(disk: Vector) -> bool:
        image = images.get(int(disk.get("IMAGE_ID", "-1")))
        return image is not None and image.type is ImageType.OS

    ordered = [disk for disk in disks if is_system(disk)]
    ordered += vectors(vm.template, "CONTEXT")
    ordered += [disk for disk in disks if not is_system(disk)]
    for disk in ordered:
        if "TARGET" not in disk:
            disk["TARGET"] = _free_target(vm, disk.get("DEV_PREFIX", "sd"))


def _free_target(vm: Vm, prefix: str) -> str:
    used = {disk.get("TARGET") for disk in vectors(vm.template, "DISK") + vectors(vm.template, "CONTEXT")}
    return next(prefix + letter for letter in string.ascii_lowercase if prefix + letter not in used)


def next_disk_id(vm: Vm) -> int:
    """The lowest id above all disks, the context disk included."""
    taken = [int(disk["DISK_ID"]) for disk in vectors(vm.template, "DISK") + vectors(vm.template, "CONTEXT")]
    return max(taken, default=-1) + 1
