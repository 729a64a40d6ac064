"""Changes to VLAN and VXLAN links, and to what a bridge's ports let through."""

from dataclasses import dataclass
from typing import Literal

PortVlan = tuple[int, bool]
"""A VLAN id, and whether it is that of the port's untagged frames, in and out."""


@dataclass(frozen=True, slots=True)
class CreateUplink:
    """Make a VLAN or VXLAN link that is marked as ours, a port of the bridge, up, in one message."""

    name: str
    kind: Literal["vlan", "vxlan"]
    lower: str | None
    """The device below it; None: a tunnel that is bound to none."""
    bridge: str | None
    """None: the link is plugged by another step."""
    mtu: int | None
    attributes: tuple[tuple[str, str], ...]
    """What follows ``IFLA_VLAN_`` or ``IFLA_VXLAN_`` in lower case, and its value."""


@dataclass(frozen=True, slots=True)
class AddRemote:
    """Have a VXLAN link send a copy of what has no known place to another node."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class RemoveRemote:
    """Have a VXLAN link send nothing to another node on suspicion."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class FilterVlans:
    """Have a bridge of ours look at VLAN tags, or let everything pass again."""

    name: str
    on: bool


@dataclass(frozen=True, slots=True)
class AddPortVlans:
    """Let VLANs pass a port of a bridge."""

    name: str
    vlans: tuple[PortVlan, ...]


@dataclass(frozen=True, slots=True)
class RemovePortVlans:
    """Let VLANs pass a port of a bridge no more."""

    name: str
    vlans: tuple[PortVlan, ...]


UplinkStep = CreateUplink | AddRemote | RemoveRemote | FilterVlans | AddPortVlans | RemovePortVlans
