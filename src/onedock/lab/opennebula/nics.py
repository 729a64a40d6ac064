"""NICs and aliases of a VM that lives: attached, detached, updated, and what becomes of their marks."""

from onedock.lab.opennebula import context, instantiate, networks, updates
from onedock.lab.opennebula.objects import Vm
from onedock.lab.opennebula.store import Store
from onedock.lab.opennebula.templates import Vector, vectors

KINDS = ("NIC", "NIC_ALIAS")
CHANGEABLE = (
    "INBOUND_AVG_BW",
    "INBOUND_PEAK_BW",
    "INBOUND_PEAK_KB",
    "OUTBOUND_AVG_BW",
    "OUTBOUND_PEAK_BW",
    "OUTBOUND_PEAK_KB",
)
"""What ``one.vm.updatenic`` may change; everything else that it is given is ignored."""


def is_alias(vm: Vm, number: int) -> bool:
    """Whether that NIC_ID is an alias."""
    return any(alias["NIC_ID"] == str(number) for alias in vectors(vm.template, "NIC_ALIAS"))


def attach(store: Store, vm: Vm, kind: str, asked: Vector) -> None:
    """A new NIC or alias, marked; its variables are in CONTEXT already.

    Raises:
        onedock.lab.opennebula.instantiate.InstantiateError: There is no such network or parent.
        onedock.lab.opennebula.leases.NoLeaseError: The network is full.
    """
    nics = [nic for kind_of_nic in KINDS for nic in vectors(vm.template, kind_of_nic)]
    number = max((int(nic["NIC_ID"]) for nic in nics), default=-1) + 1
    nic = instantiate.new_nic(store, vm, asked, number) | {"ATTACH": "YES"}
    vm.template.setdefault(kind, []).append(nic)
    _refresh(store, vm)


def detach(store: Store, vm: Vm, nic: Vector) -> None:
    """A NIC or alias marked to go; its variables, and those of its aliases, have left CONTEXT already."""
    nic["ATTACH"] = "YES"
    context.refresh(vm, store.networks.objects, leaving=nic["NIC_ID"])


def update(vm: Vm, nic: Vector, asked: Vector, *, append: bool) -> bool:
    """Change what may be changed, the old values in VNET_UPDATE; returns whether anything changed."""
    old = {}
    for name in CHANGEABLE:
        if name in asked and asked[name] != nic.get(name):
            old[name] = nic.get(name, "")
            nic[name] = asked[name]
        elif name not in asked and name in nic and not append:
            old[name] = nic.pop(name)
    if old:
        vm.template["VNET_UPDATE"] = [old]
    return bool(old)


def settle(store: Store, vm: Vm, *, keep: bool) -> None:
    """Take the mark away: the marked NIC stays, or goes with its aliases and leases."""
    for kind in KINDS:
        for nic in [nic for nic in vectors(vm.template, kind) if nic.pop("ATTACH", "") == "YES"]:
            if not keep:
                _remove(store, vm, kind, nic)
    _refresh(store, vm)


def _remove(store: Store, vm: Vm, kind: str, nic: Vector) -> None:
    number = nic["NIC_ID"]
    gone = [(kind, nic)]
    gone += [("NIC_ALIAS", alias) for alias in vectors(vm.template, "NIC_ALIAS") if alias["PARENT_ID"] == number]
    for kind_gone, one in gone:
        vm.template[kind_gone] = [value for value in vm.template[kind_gone] if value is not one]
        if not vm.template[kind_gone]:
            del vm.template[kind_gone]
        instantiate.release_nic(store, vm, one)
    for parent in vectors(vm.template, "NIC"):
        if parent["NIC_ID"] == nic.get("PARENT_ID"):
            parent["ALIAS_IDS"] = ",".join(text for text in parent["ALIAS_IDS"].split(",") if text != number)


def _refresh(store: Store, vm: Vm) -> None:
    networks.set_rules(vm, store.security_groups.objects)
    context.refresh(vm, store.networks.objects)
    updates.follow(store, vm)
