"""The closed set of changes to a VM's network. ``netlink.apply`` knows how each is said to the kernel."""

from dataclasses import dataclass

from onedock.reconcilers.model import VmId


@dataclass(frozen=True, slots=True)
class CreateNamespace:
    """Make the VM's namespace."""


@dataclass(frozen=True, slots=True)
class RaiseLoopback:
    """Bring ``lo`` up: with a namespace from outside, some engines do not."""


@dataclass(frozen=True, slots=True)
class CreateBridge:
    """Make a bridge that is marked as ours, up, without spanning tree."""

    name: str
    mtu: int | None


@dataclass(frozen=True, slots=True)
class CreateVeth:
    """Make a veth in one message: host side marked, plugged in and up, the other born in the namespace."""

    vm: VmId
    host_name: str
    name: str
    mac: str
    bridge: str
    mtu: int | None


@dataclass(frozen=True, slots=True)
class DeleteHostLink:
    """Delete a veth of ours by its host side."""

    name: str


@dataclass(frozen=True, slots=True)
class Label:
    """Set the ifalias of a link of ours, for people."""

    name: str
    alias: str


@dataclass(frozen=True, slots=True)
class PlugIn:
    """Make a link of the host a port of a bridge."""

    name: str
    bridge: str


@dataclass(frozen=True, slots=True)
class RaiseHostLink:
    """Bring a link of the host up."""

    name: str


@dataclass(frozen=True, slots=True)
class SetHostMtu:
    """Set the MTU of a host side."""

    name: str
    mtu: int


@dataclass(frozen=True, slots=True)
class SetMac:
    """Set the MAC of a NIC."""

    name: str
    mac: str


@dataclass(frozen=True, slots=True)
class SetMtu:
    """Set the MTU of a NIC."""

    name: str
    mtu: int


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Take an address from a NIC."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Give an address to a NIC, usable at once (no duplicate address detection)."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class RaiseNic:
    """Bring a NIC up."""

    name: str


@dataclass(frozen=True, slots=True)
class RemoveGateway:
    """Remove a default route."""

    name: str
    gateway: str
    metric: int


@dataclass(frozen=True, slots=True)
class AddGateway:
    """Add a default route; ``onlink`` reaches a gateway that is outside of the NIC's subnets."""

    name: str
    gateway: str
    metric: int
    onlink: bool


Step = (
    CreateNamespace
    | RaiseLoopback
    | CreateBridge
    | CreateVeth
    | DeleteHostLink
    | Label
    | PlugIn
    | RaiseHostLink
    | SetHostMtu
    | SetMac
    | SetMtu
    | RemoveAddress
    | AddAddress
    | RaiseNic
    | RemoveGateway
    | AddGateway
)
