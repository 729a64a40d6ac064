"""Changes to the VM's namespace, its NICs and their addresses."""

from dataclasses import dataclass

from onedock.reconcilers.model import VmId


@dataclass(frozen=True, slots=True)
class CreateNamespace:
    """Make the VM's namespace."""


@dataclass(frozen=True, slots=True)
class RaiseLoopback:
    """Bring ``lo`` up: with a namespace from outside, some engines do not."""


@dataclass(frozen=True, slots=True)
class CreateVeth:
    """Make a veth in one message: host side marked, plugged in and up, the other born in the namespace."""

    vm: VmId
    host_name: str
    name: str
    mac: str
    bridge: str | None
    """None: the link is plugged by another step."""
    mtu: int | None
    """Of the NIC; None: as much as its bridge carries."""
    carried: int | None = None
    """What the bridge carries, and goes on to carry with the host side in it; None: it was not there to be asked."""


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
class SetIpv6:
    """Set how a NIC takes part in IPv6: one of its sysctls, such as ``accept_ra``."""

    name: str
    key: str
    value: int


@dataclass(frozen=True, slots=True)
class SetIpv4:
    """Set how a NIC takes part in IPv4: one of its sysctls, such as ``arp_ignore``."""

    name: str
    key: str
    value: int


NicStep = (
    CreateNamespace
    | RaiseLoopback
    | CreateVeth
    | SetMac
    | SetMtu
    | RemoveAddress
    | AddAddress
    | RaiseNic
    | SetIpv6
    | SetIpv4
)
