"""What a VM's NICs ask for and do not get, though they are plugged: sentences for the VM's log."""

from collections.abc import Iterator

from onedock.controller.documents import VmDocument
from onedock.controller.networks.nics import in_order, source_of
from onedock.controller.networks.rules import DRIVERS as FILTERING
from onedock.controller.networks.values import Source


def network_notes(vm: VmDocument) -> tuple[str, ...]:
    """The notes on all NICs. Raises TerminalError: a NIC without an id."""
    return tuple(note for nic in in_order(vm.nics) for note in _notes(source_of(vm, nic)))


def _notes(nic: Source) -> Iterator[str]:
    driver = nic.text("VN_MAD")
    groups = ",".join(word.strip() for word in nic.text("SECURITY_GROUPS").split(",") if word.strip() not in {"", "0"})
    if groups and driver not in FILTERING:
        yield f"{nic.where}: security groups {groups[:60]} do nothing with VN_MAD={driver[:20]}; use fw"
    if nic.either("IP6_METHOD", "IP6_METHOD").lower() == "dhcp":
        yield f"{nic.where}: IP6_METHOD=dhcp is taken as auto; only router advertisements give IPv6 addresses"
    if nic.either("ROUTES", "ROUTES") and nic.either("METHOD", "METHOD").lower() not in {"", "static"}:
        yield f"{nic.where}: IPv4 ROUTES are set with METHOD=static only"
    if nic.text("VLAN_TAGGED_ID") and driver in {"bridge", "fw"} and not nic.text("PHYDEV"):
        yield f"{nic.where}: VLAN_TAGGED_ID does nothing without PHYDEV, as with the stock driver"
    if nic.text("FILTER"):
        yield f"{nic.where}: FILTER={nic.text('FILTER')[:30]!r} is libvirt's; use FILTER_IP_SPOOFING=YES"
