"""What a node must offer, as the consumer sees it. ``nodeside`` implements these; tests have fakes with state.

Every method raises only ``reconcilers.errors``: ``TransientError`` when the other side did not answer,
``TerminalError`` when the request can never work, ``NotFoundError`` where named. Nothing else escapes.
"""

from collections.abc import Sequence
from typing import Protocol

from onedock.reconcilers.measures import HostFacts, HostUsage, VmUsage
from onedock.reconcilers.model import (
    Container,
    ContainerId,
    ContainerSpec,
    Network,
    ObservedNetwork,
    VmId,
)


class Containers(Protocol):
    """The engine of one node."""

    async def ping(self) -> str:
        """Return the engine's version, e.g. ``20.10.24``."""
        ...

    async def image_present(self, image: str) -> bool:
        """Whether the engine has this image (a reference pinned by digest)."""
        ...

    async def pull(self, image: str) -> None:
        """Pull it; done at once when it is there. Raises TerminalError when the registry does not have it."""
        ...

    async def remove_image(self, image: str) -> None:
        """Remove it with all its names; absent is success, in use is success (it stays)."""
        ...

    async def find(self, vm: VmId) -> Container | None:
        """The container named ``one-<vm>``, ours or not; None when there is none."""
        ...

    async def list_ours(self) -> tuple[Container, ...]:
        """Every container with our label. Exit codes and pids may be zero here: ``find`` has them."""
        ...

    async def create(self, vm: VmId, *, instance: str, spec: ContainerSpec) -> ContainerId:
        """Create ``one-<vm>``; if it exists with the same instance and spec, return that one."""
        ...

    async def start(self, container: ContainerId) -> None:
        """Start it; running already is success. TerminalError: the command cannot be run (the message says why)."""
        ...

    async def stop(self, container: ContainerId, *, grace_s: float | None) -> None:
        """Stop it and wait until it is down; stopped or gone already is success. None kills at once."""
        ...

    async def unpause(self, container: ContainerId) -> None:
        """Thaw it; running already is success."""
        ...

    async def update_limits(self, container: ContainerId, spec: ContainerSpec) -> None:
        """Apply the limits of ``spec``; NotFoundError when it is gone."""
        ...

    async def remove(self, container: ContainerId) -> None:
        """Kill and remove it with its anonymous volumes; gone already is success."""
        ...


class Networks(Protocol):
    """The network side of one node's agent."""

    async def observe(self, vm: VmId) -> ObservedNetwork | None:
        """What the kernel shows of this VM's namespace; None when there is none."""
        ...

    async def ensure(self, network: Network) -> ObservedNetwork:
        """Make it so, and return what is there now. TerminalError: an address or device cannot work."""
        ...

    async def bind(self, vm: VmId, container: ContainerId) -> None:
        """Let the runtime wrapper start ``container`` in the VM's namespace; survives an agent restart."""
        ...

    async def remove(self, vm: VmId) -> None:
        """Remove namespace, links, bindings and what was kept on disk; absent is success."""
        ...

    async def announce(self, vm: VmId) -> None:
        """Tell the neighbours of a VM that was plugged where its addresses are now. NotFoundError: it was not."""
        ...

    async def list_vms(self) -> tuple[VmId, ...]:
        """VMs whose networks this node has made, or begun to make, and not removed yet."""
        ...


class Metrics(Protocol):
    """The measuring side of one node's agent."""

    async def host_facts(self) -> HostFacts:
        """Facts of the node."""
        ...

    async def host_usage(self) -> HostUsage:
        """Load of the node now."""
        ...

    async def vm_usage(self, containers: Sequence[tuple[VmId, ContainerId, int]]) -> tuple[VmUsage, ...]:
        """Counters for each (vm, container, pid); those that are gone are left out."""
        ...
