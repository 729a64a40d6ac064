"""What the kernel shows of one VM's network, as values.

Ownership is the link group: the kernel sets it in the message that creates a link, so that no crash can leave
a link of ours unmarked. The ``ifalias`` says the same to people, but can only be set afterwards.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from onedock.reconcilers.model import Nic, VmId

BRIDGE_GROUP = 0x7FFFFFFF
BRIDGE_ALIAS = "onedock"


def vm_group(vm: VmId) -> int:
    """The link group of all host sides of a VM's NICs."""
    return 0x40000000 | vm


def vm_alias(vm: VmId) -> str:
    """The ifalias of all host sides of a VM's NICs."""
    return f"onedock:{vm}"


@dataclass(frozen=True, slots=True)
class HostLink:
    """A link in the agent's own namespace."""

    name: str
    index: int
    kind: str = ""
    """``bridge``, ``veth``…; empty for hardware."""
    group: int = 0
    alias: str = ""
    mtu: int = 1500
    up: bool = False
    master: str | None = None
    """Name of the bridge that it is a port of."""
    peer: int = 0
    """Index of the other end of a veth, in the namespace where that is."""


@dataclass(frozen=True, slots=True)
class InnerLink:
    """A link in the VM's namespace."""

    name: str
    index: int
    kind: str = ""
    mac: str = ""
    mtu: int = 1500
    up: bool = False
    carrier: bool = False
    peer: int = 0
    """Index of the other end of a veth, in the agent's own namespace."""
    addresses: tuple[str, ...] = ()
    """CIDR, canonical, permanent ones only, in the kernel's order."""
    gateways: tuple[tuple[str, int], ...] = ()
    """(gateway, metric) of static default routes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that a plan for one VM has to know."""

    namespace: bool = False
    loopback_up: bool = False
    inner: tuple[InnerLink, ...] = ()
    """Without the loopback."""
    host: Mapping[str, HostLink] = field(default_factory=dict)
    """Wanted bridges, physical devices and host sides, and peers of ``inner``, as far as they exist."""

    def host_side(self, inner: InnerLink, vm: VmId) -> HostLink | None:
        """Our end of a veth in the namespace; None when the link was not made by ONEDock for this VM."""
        for link in self.host.values():
            if link.index == inner.peer and link.peer == inner.index and link.group == vm_group(vm):
                return link
        return None


def canonical_address(address: str) -> str:
    """The spelling of a CIDR string that the kernel's answers have."""
    return str(ipaddress.ip_interface(address))


def canonical_gateway(gateway: str) -> str:
    """The spelling of an address that the kernel's answers have."""
    return str(ipaddress.ip_address(gateway))


def metric(nic: Nic) -> int:
    """Metric of a NIC's default routes: the lowest NIC_ID wins, and no NIC disturbs another's."""
    return 100 + nic.index
