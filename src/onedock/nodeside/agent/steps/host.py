"""Changes to the links of the node: bridges, their ports, host sides of NICs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CreateBridge:
    """Make a bridge that is marked as ours, up, without spanning tree."""

    name: str
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


HostStep = CreateBridge | DeleteHostLink | Label | PlugIn | RaiseHostLink | SetHostMtu
