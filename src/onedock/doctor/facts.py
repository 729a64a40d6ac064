"""What the checks judge. Values only; ``gather`` fills them in."""

from dataclasses import dataclass
from typing import Any

from onedock.config.settings import NodeSettings, Settings
from onedock.controller.oned import Host
from onedock.nodeside.checkup import Checkup
from onedock.nodeside.docker import EngineInfo
from onedock.reconcilers.measures import HostUsage
from onedock.reconcilers.model import Container, NodeName, VmId


@dataclass(frozen=True, slots=True)
class Disk:
    """Space of a file system."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Datastore:
    """A datastore of OpenNebula."""

    id: int
    name: str
    is_system: bool
    ds_mad: str
    tm_mad: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A VM that is not as it should be, with the first line of ``onedock explain``."""

    vm: VmId
    name: str
    cause: str


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node; what could not be asked is None, with the reason beside it."""

    name: NodeName
    settings: NodeSettings
    info: EngineInfo | None = None
    engine_error: str = ""
    engine_skew_s: float = 0.0
    """How far the engine's clock is ahead of the one here."""
    checkup: Checkup | None = None
    agent_error: str = ""
    agent_skew_s: float = 0.0
    usage: HostUsage | None = None
    containers: tuple[Container, ...] = ()
    networks: tuple[VmId, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything."""

    settings: Settings
    health: dict[str, Any] | None = None
    """The controller's own view."""
    api_error: str = ""
    oned_error: str = ""
    hosts: tuple[Host, ...] = ()
    datastores: tuple[Datastore, ...] = ()
    restricted: frozenset[str] | None = None
    """VM_RESTRICTED_ATTR of oned.conf, upper case; None: oned was not asked."""
    vms: frozenset[VmId] = frozenset()
    """All VMs of OpenNebula that are not DONE."""
    troubles: tuple[Trouble, ...] = ()
    """The first ones, in the order of their ids."""
    registry_error: str = ""
    registry_write_error: str = ""
    journal_disk: Disk | None = None
    registry_disk: Disk | None = None
    nodes: tuple[NodeFacts, ...] = ()
