"""Changes to the routes of the VM's namespace."""

from dataclasses import dataclass


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


RouteStep = RemoveGateway | AddGateway
