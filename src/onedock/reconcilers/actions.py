"""The closed union of actions that a plan may contain. Each is idempotent: done twice is done once.

``apply`` is one flat ``match`` in ``reconcilers.runner``; mypy proves that no action is forgotten.
"""

from dataclasses import dataclass

from onedock.reconcilers.model import ContainerId, ContainerSpec, Network, VmId


@dataclass(frozen=True, slots=True)
class PullImage:
    """Make the image present in the node's engine."""

    image: str


@dataclass(frozen=True, slots=True)
class EnsureNetwork:
    """Make the VM's namespace and all its NICs exactly as given, in one call to the agent."""

    network: Network


@dataclass(frozen=True, slots=True)
class RemoveNetwork:
    """Remove the VM's links and namespace, and bridges that ONEDock made and nobody uses any more."""

    vm: VmId


@dataclass(frozen=True, slots=True)
class CreateContainer:
    """Create the container, stopped. A name conflict means: look who it is."""

    vm: VmId
    instance: str
    spec: ContainerSpec


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Kill it if it runs, and remove it with its writable layer."""

    container: ContainerId


@dataclass(frozen=True, slots=True)
class BindNamespace:
    """Note which namespace the runtime wrapper has to give to this container. None: the one just created."""

    vm: VmId
    container: ContainerId | None


@dataclass(frozen=True, slots=True)
class UpdateLimits:
    """Change CPU, memory and pids limits of an existing container."""

    container: ContainerId
    spec: ContainerSpec


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Start it, in the bound namespace. None: the one just created."""

    vm: VmId
    container: ContainerId | None


@dataclass(frozen=True, slots=True)
class StopContainer:
    """Stop it: the image's stop signal, then after ``grace_s`` a kill. None: kill at once."""

    container: ContainerId
    grace_s: float | None


@dataclass(frozen=True, slots=True)
class UnpauseContainer:
    """Thaw it: a paused process can neither be stopped with grace nor answer."""

    container: ContainerId


Action = (
    PullImage
    | EnsureNetwork
    | RemoveNetwork
    | CreateContainer
    | RemoveContainer
    | BindNamespace
    | UpdateLimits
    | StartContainer
    | StopContainer
    | UnpauseContainer
)
