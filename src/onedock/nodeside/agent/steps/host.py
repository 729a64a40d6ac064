"""Changes to the links of the node: bridges, their ports, host sides of NICs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CreateBridge:
    """Make a bridge that is marked as ours, up, without spanning tree unless its options say so."""

    name: str
    mtu: int | None
    options: tuple[tuple[str, str], ...] = ()
    """What follows ``IFLA_BR_`` in lower case, and its value."""


@dataclass(frozen=True, slots=True)
class DeleteHostLink:
    """Delete a link of ours: a veth by its host side, or an uplink."""

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
class Unplug:
    """Make a link of the host a port of no bridge."""

    name: str


@dataclass(frozen=True, slots=True)
class RaiseHostLink:
    """Bring a link of the host up."""

    name: str


@dataclass(frozen=True, slots=True)
class SetHostMtu:
    """Set the MTU of a host side or uplink."""

    name: str
    mtu: int


HostStep = CreateBridge | DeleteHostLink | Label | PlugIn | Unplug | RaiseHostLink | SetHostMtu
