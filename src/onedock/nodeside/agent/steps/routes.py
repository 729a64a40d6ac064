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
class RemoveRouter:
    """Remove a default route that a router has advertised."""

    name: str
    gateway: str


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


@dataclass(frozen=True, slots=True)
class RemoveSourceRoute:
    """Remove a route for packets of certain sources."""

    name: str
    table: int
    destination: str
    gateway: str


@dataclass(frozen=True, slots=True)
class AddSourceRoute:
    """Add a route for packets of certain sources; ``onlink`` as for a default route."""

    name: str
    table: int
    destination: str
    gateway: str
    """Empty: the destination is reached without one."""
    onlink: bool


@dataclass(frozen=True, slots=True)
class RemoveSourceRule:
    """No longer route what has this source by this table."""

    source: str
    table: int


@dataclass(frozen=True, slots=True)
class AddSourceRule:
    """Route what has this source by this table first."""

    source: str
    table: int


RouteStep = (
    RemoveGateway
    | AddGateway
    | RemoveRouter
    | RemoveRoute
    | AddRoute
    | AddConnected
    | RemoveSourceRoute
    | AddSourceRoute
    | RemoveSourceRule
    | AddSourceRule
)
