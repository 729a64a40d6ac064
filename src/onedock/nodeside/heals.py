"""What a node agent tells of the networks that it put back, for the agent and its clients."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from onedock.reconcilers.model import VmId


class Cause(StrEnum):
    """Why a VM's network was looked at."""

    LINK = "link"
    PORT = "port"
    """What a bridge does with one of its ports: VLANs, membership."""
    ADDRESS = "address"
    ROUTE = "route"
    ADVERTISED = "advertised"
    """What a router gives, or takes away: addresses, itself. What follows from it heals nothing, and is not counted."""
    FORWARDING = "forwarding"
    """Where a tunnel sends what has no known place."""
    QDISC = "qdisc"
    FILTER = "filter"
    NAMESPACE = "namespace"
    SWITCH = "switch"
    """What the database of Open vSwitch says of one of its ports, or that it was not heard for a while."""
    OVERRUN = "overrun"
    """Notifications were lost."""
    START = "start"
    """The agent was not there to see it."""
    RETRY = "retry"
    """The last attempt failed."""


@dataclass(frozen=True, slots=True)
class Healed:
    """One network that was put back."""

    number: int
    """Counts up from 1 since the agent's start."""
    vm: VmId
    cause: Cause
    steps: tuple[str, ...]
    """What was done, in words."""
    seconds: float
    """From the first notification until it was as wanted."""
    time: float = 0.0
    """When that was, Unix time; 0: an agent of an earlier release."""


@dataclass(frozen=True, slots=True)
class Heals:
    """All of them since the agent's start."""

    counts: Mapping[Cause, int] = field(default_factory=dict)
    recent: tuple[Healed, ...] = ()
    """The latest, as far as they are remembered and were asked for."""
    agent_started: float = 0.0
    """Unix time; another one means that the numbers have begun anew."""
