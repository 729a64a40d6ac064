"""A new VM from template attributes: what belongs to oned is completed, the rest is the user's."""

import copy
import uuid

from onedock.lab.opennebula import context, disks, leases, networks, updates
from onedock.lab.opennebula.disks import DiskError
from onedock.lab.opennebula.objects import Image, VirtualNetwork, Vm
from onedock.lab.opennebula.states import ImageState, VmState
from onedock.lab.opennebula.store import Store
from onedock.lab.opennebula.templates import Template, Vector, get, vectors

_OWN = [
    "CONTEXT",
    "CPU",
    "CPU_MODEL",
    "DISK",
    "FEATURES",
    "GRAPHICS",
    "INPUT",
    "MEMORY",
    "NIC",
    "NIC_ALIAS",
    "NIC_DEFAULT",
    "OS",
    "PCI",
    "RAW",
    "TEMPLATE_ID",
    "TOPOLOGY",
    "VCPU",
    "VIDEO",
]
"""Attributes that oned knows; all others go to USER_TEMPLATE."""

CLUSTER_REQUIREMENT = '("CLUSTERS/ID" @> 0)'


class InstantiateError(Exception):
    """The VM cannot be made; the message is what oned answers."""


def new_vm(store: Store, number: int, attributes: Template, *, hold: bool, now: int) -> Vm:
    """Makes the VM and takes its images and leases; everything changed is saved.

    Raises:
        InstantiateError: An attribute is missing or names something that does not exist.
        DiskError: An image cannot be used.
        onedock.lab.opennebula.leases.NoLeaseError: A network is full.
    """
    _check(attributes)
    attributes = copy.deepcopy(attributes)
    name = get(attributes, "NAME") or f"one-{number}"
    own: Template = {key: attributes[key] for key in _OWN if key in attributes}
    user: Template = {key: values for key, values in attributes.items() if key not in (*_OWN, "NAME")}
    state = VmState.HOLD if hold else VmState.PENDING
    vm = Vm(number, name, own, user, stime=now, state=state, prev_state=state)
    own["CPU"] = [f"{float(get(own, 'CPU')):g}"]
    own["VMID"] = [str(number)]
    if hold:
        own["SUBMIT_ON_HOLD"] = ["YES"]
    own["AUTOMATIC_DS_REQUIREMENTS"] = [CLUSTER_REQUIREMENT]
    own["AUTOMATIC_REQUIREMENTS"] = ["(CLUSTER_ID = 0) & !(PIN_POLICY = PINNED)"]
    own["AUTOMATIC_NIC_REQUIREMENTS"] = [CLUSTER_REQUIREMENT]
    system: Vector = {"MACHINE": "q35", "UUID": str(uuid.uuid4())}
    own["OS"] = [system | next(iter(vectors(own, "OS")), {})]
    wanted = own.pop("CONTEXT", [])
    try:
        _add_disks(store, vm)
        _add_nics(store, vm)
    except (InstantiateError, DiskError, leases.NoLeaseError):
        release(store, vm)
        raise
    for vector in wanted[:1]:
        if isinstance(vector, dict):
            values = context.complete(vm, vector, store.networks.objects)
            own["CONTEXT"] = [values | {"DISK_ID": str(disks.next_disk_id(vm))}]
    disks.give_targets(vm, store.images.objects)
    networks.set_rules(vm, store.security_groups.objects)
    updates.follow(store, vm)
    store.save(vm)
    return vm


def _check(attributes: Template) -> None:
    for name in ("CPU", "MEMORY"):
        try:
            amount = float(get(attributes, name))
        except ValueError:
            amount = 0.0
        if amount <= 0:
            raise InstantiateError(f"{name} attribute must be a positive number")


def _add_disks(store: Store, vm: Vm) -> None:
    asked = vectors(vm.template, "DISK")
    vm.template.pop("DISK", None)
    for disk_id, disk in enumerate(asked):
        vm.template.setdefault("DISK", []).append(new_disk(store, vm, disk, disk_id))


def new_disk(store: Store, vm: Vm, asked: Vector, disk_id: int) -> Vector:
    """One disk; its image is marked as used by the VM.

    Raises:
        InstantiateError: There is no such image.
        DiskError: The image cannot be used.
    """
    image = find_image(store, asked)
    if image is None:
        if "IMAGE" in asked or "IMAGE_ID" in asked:
            raise InstantiateError(f"Image {asked.get('IMAGE_ID') or asked['IMAGE']} does not exist")
        if not asked.get("SIZE"):
            raise DiskError("SIZE attribute not found for volatile DISK")
        return disks.volatile_disk(asked, disk_id)
    disk = disks.image_disk(image, store.datastores.objects[image.datastore_id], asked, disk_id)
    image.state = ImageState.USED_PERS if image.persistent else ImageState.USED
    image.prev_state = image.state
    image.vms.append(vm.id)
    store.save(image)
    return disk


def find_image(store: Store, asked: Vector) -> Image | None:
    """The image that a disk names by id or name."""
    if "IMAGE_ID" in asked:
        return store.images.get(int(asked["IMAGE_ID"]))
    return next((image for image in store.images.objects.values() if image.name == asked.get("IMAGE")), None)


def find_network(store: Store, asked: Vector) -> VirtualNetwork:
    """The network that a NIC names by id or name.

    Raises:
        InstantiateError: There is none.
    """
    found = (
        store.networks.get(int(asked["NETWORK_ID"]))
        if asked.get("NETWORK_ID", "").isdigit()
        else next((net for net in store.networks.objects.values() if net.name == asked.get("NETWORK")), None)
    )
    if found is None:
        raise InstantiateError(f"Virtual network {asked.get('NETWORK_ID') or asked.get('NETWORK')} does not exist")
    return found


def new_nic(store: Store, vm: Vm, asked: Vector, nic_id: int) -> Vector:
    """One NIC with a lease, or an alias of the NIC it names as PARENT.

    Raises:
        InstantiateError: There is no such network or parent.
        onedock.lab.opennebula.leases.NoLeaseError: The network is full.
    """
    network = find_network(store, asked)
    nic = networks.new_nic(network, asked, vm.id, nic_id)
    if parent_name := asked.get("PARENT"):
        parent = next((nic for nic in vectors(vm.template, "NIC") if nic["NAME"] == parent_name), None)
        if parent is None:
            raise InstantiateError(f"NIC_ALIAS has no parent {parent_name}")
        others = [text for text in parent.get("ALIAS_IDS", "").split(",") if text]
        taken = [int(alias["ALIAS_ID"]) for alias in vectors(vm.template, "NIC_ALIAS") if alias["NIC_ID"] in others]
        nic |= {"ALIAS_ID": str(max(taken, default=-1) + 1), "PARENT_ID": parent["NIC_ID"]}
        nic["NAME"] = asked.get("NAME", f"NIC{parent['NIC_ID']}_ALIAS{nic_id}")
        parent["ALIAS_IDS"] = ",".join([*others, str(nic_id)])
    store.save(network)
    return nic


def _add_nics(store: Store, vm: Vm) -> None:
    asked = {kind: vectors(vm.template, kind) for kind in ("NIC", "NIC_ALIAS")}
    nic_id = 0
    for kind in asked:
        vm.template.pop(kind, None)
    for kind, wanted in asked.items():
        for nic in wanted:
            made = new_nic(store, vm, nic, nic_id)
            vm.template.setdefault(kind, []).append(made)
            nic_id += 1


def release(store: Store, vm: Vm) -> None:
    """A VM that is DONE gives its images and leases back."""
    for disk in vectors(vm.template, "DISK"):
        release_disk(store, vm, disk)
    for nic in vectors(vm.template, "NIC") + vectors(vm.template, "NIC_ALIAS"):
        release_nic(store, vm, nic)


def release_disk(store: Store, vm: Vm, disk: Vector) -> None:
    """The image of a disk is used by one VM less."""
    image = store.images.get(int(disk.get("IMAGE_ID", "-1")))
    if image is None or vm.id not in image.vms:
        return
    image.vms.remove(vm.id)
    image.came_back = image.persistent
    if not image.vms and image.state in (ImageState.USED, ImageState.USED_PERS):
        image.state = image.prev_state = ImageState.READY
    store.save(image)


def release_nic(store: Store, vm: Vm, nic: Vector) -> None:
    """The lease of a NIC is free again."""
    network = store.networks.get(int(nic["NETWORK_ID"]))
    if network is not None:
        leases.give_back(network, vm.id, nic["MAC"])
        store.save(network)
