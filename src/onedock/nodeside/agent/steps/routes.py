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


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """Remove a static route."""

    name: str
    destination: str
    gateway: str
    metric: int


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Add a static route; ``onlink`` as for a default route."""

    name: str
    destination: str
    gateway: str
    metric: int
    onlink: bool


@dataclass(frozen=True, slots=True)
class AddConnected:
    """Put back the route to a NIC's own subnet, which the kernel made with the address."""

    name: str
    destination: str
    source: str | None
    """Address that packets get by this route, IPv4 only."""


RouteStep = RemoveGateway | AddGateway | RemoveRoute | AddRoute | AddConnected
