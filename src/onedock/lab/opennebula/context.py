"""CONTEXT of a VM: what the user wrote plus, with NETWORK=YES, the addresses of its NICs (protocol reference 8)."""

import re

from onedock.lab.opennebula.networks import range_of
from onedock.lab.opennebula.objects import VirtualNetwork, Vm
from onedock.lab.opennebula.templates import Vector, get, vectors

_OF_NIC = {
    "MAC": "MAC",
    "IP": "IP",
    "IP6": "IP6",
    "IP6_ULA": "IP6_ULA",
    "METRIC": "METRIC",
    "METHOD": "METHOD",
    "VLAN_ID": "VLAN_ID",
    "VROUTER_IP": "VROUTER_IP",
    "VROUTER_IP6": "VROUTER_IP6",
    "VROUTER_MANAGEMENT": "VROUTER_MANAGEMENT",
    "EXTERNAL": "EXTERNAL",
    "IP6_METHOD": "IP6_METHOD",
    "IP6_METRIC": "IP6_METRIC",
}
_OF_NETWORK = {
    "MASK": "NETWORK_MASK",
    "NETWORK": "NETWORK_ADDRESS",
    "GATEWAY": "GATEWAY",
    "DNS": "DNS",
    "SEARCH_DOMAIN": "SEARCH_DOMAIN",
    "MTU": "GUEST_MTU",
    "ROUTES": "ROUTES",
    "IP6_GATEWAY": "GATEWAY6",
    "IP6_PREFIX_LENGTH": "PREFIX_LENGTH",
}
"""Suffix of the variable → attribute of the NIC, or of address range and network."""

_VARIABLE = re.compile(r"\$(\w+)(?:\[[^\]]*\])?")
_GENERATED = re.compile(r"ETH\d+_")


def complete(vm: Vm, wanted: Vector, networks: dict[int, VirtualNetwork], *, leaving: str = "") -> Vector:
    """The whole CONTEXT vector: ``wanted`` with variables replaced, and the network variables made anew.

    Args:
        vm: The VM with its NICs.
        wanted: What the user wrote, or the vector as it was.
        networks: All networks by id.
        leaving: NIC_ID of a NIC or alias that is being detached and has no variables any more.
    """
    values = {key: _expand(text, vm) for key, text in wanted.items() if not _GENERATED.match(key)}
    if values.get("NETWORK", "").upper() == "YES":
        for nic in vectors(vm.template, "NIC"):
            if nic["NIC_ID"] == leaving:
                continue
            values |= _variables(f"ETH{nic['NIC_ID']}", nic, networks)
        for alias in vectors(vm.template, "NIC_ALIAS"):
            if leaving in (alias["NIC_ID"], alias["PARENT_ID"]):
                continue
            prefix = f"ETH{alias['PARENT_ID']}_ALIAS{alias['ALIAS_ID']}"
            values |= _variables(prefix, alias, networks)
    return values


def _expand(text: str, vm: Vm) -> str:
    known = {"NAME": vm.name, "VMID": str(vm.id), "UID": "0", "GID": "0", "UNAME": "oneadmin", "GNAME": "oneadmin"}

    def replacement(match: re.Match[str]) -> str:
        name = match.group(1)
        return known.get(name) or get(vm.template, name) or get(vm.user_template, name)

    return _VARIABLE.sub(replacement, text)


def _variables(prefix: str, nic: Vector, networks: dict[int, VirtualNetwork]) -> Vector:
    network = networks[int(nic["NETWORK_ID"])]
    range_ = range_of(network, nic)
    values = {f"{prefix}_{suffix}": nic.get(name, "") for suffix, name in _OF_NIC.items()}
    for suffix, name in _OF_NETWORK.items():
        values[f"{prefix}_{suffix}"] = nic.get(name) or range_.attributes.get(name) or get(network.template, name)
    return values


def refresh(vm: Vm, networks: dict[int, VirtualNetwork], *, leaving: str = "") -> None:
    """Makes the generated part of the VM's CONTEXT anew, if it has one."""
    contexts = vectors(vm.template, "CONTEXT")
    if contexts:
        vm.template["CONTEXT"] = [complete(vm, contexts[0], networks, leaving=leaving)]
