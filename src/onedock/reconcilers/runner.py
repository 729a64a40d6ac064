"""Observe → plan → apply for one VM on one node, over the ports. Called by the controller's worker.

Idempotent as a whole: it may be cut at any await and run again. Errors pass through; who retries is decided above.
"""

import asyncio
import time
from collections.abc import Callable
from typing import assert_never

from onedock.reconcilers.actions import (
    Action,
    BindNamespace,
    CreateContainer,
    EnsureNetwork,
    PullImage,
    RemoveContainer,
    RemoveNetwork,
    StartContainer,
    StopContainer,
    UnpauseContainer,
    UpdateLimits,
)
from onedock.reconcilers.errors import NotFoundError, TransientError
from onedock.reconcilers.model import ContainerId, Desired, Observed, Power, VmId
from onedock.reconcilers.ports import Containers, Networks
from onedock.reconcilers.vm import plan


class Runner:
    """Brings VMs of one node to their desired state.

    Args:
        containers: the node's engine.
        networks: the node's agent.
        starts: how many containers may be started at the same time; more only makes each start slower.
        on_action: told of every action after it was done, with the VM and the seconds it took; for log and metrics.
    """

    def __init__(
        self,
        containers: Containers,
        networks: Networks,
        *,
        starts: int,
        on_action: Callable[[VmId, Action, float], None],
    ) -> None:
        self._containers = containers
        self._networks = networks
        self._starting = asyncio.Semaphore(starts)
        self._on_action = on_action

    async def observe(self, desired: Desired) -> Observed:
        """Read container and network of the VM; the image only when it may be needed."""
        container, network = await asyncio.gather(self._containers.find(desired.vm), self._networks.observe(desired.vm))
        needs_image = desired.power is Power.RUNNING and desired.spec is not None and container is None
        present = (
            needs_image
            and desired.spec is not None
            and await self._containers.image_present(desired.spec.container.image)
        )
        return Observed(image_present=present, container=container, network=network)

    async def converge(self, desired: Desired, observed: Observed | None = None) -> Observed:
        """Do what is missing and return what was there before; ``observed`` saves a look just taken.

        Raises:
            TransientError, TerminalError: see ``reconcilers.errors``; what was done so far stays and is found again.
        """
        if observed is None:
            observed = await self.observe(desired)
        created: ContainerId | None = None
        for stage in _stages(plan(desired, observed)):
            results = await asyncio.gather(*(self._timed(action, created) for action in stage), return_exceptions=True)
            for action, result in zip(stage, results, strict=True):
                if not isinstance(result, BaseException):
                    made, seconds = result
                    created = made or created
                    self._on_action(desired.vm, action, seconds)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        return observed

    async def _timed(self, action: Action, created: ContainerId | None) -> tuple[ContainerId | None, float]:
        started = time.monotonic()
        return await self._apply(action, created), time.monotonic() - started

    async def _apply(self, action: Action, created: ContainerId | None) -> ContainerId | None:
        """Do one action; returns the id of the container created in this pass, if any."""
        match action:
            case PullImage(image):
                await self._containers.pull(image)
            case EnsureNetwork(network):
                await self._networks.ensure(network)
            case RemoveNetwork(vm):
                await self._networks.remove(vm)
            case CreateContainer(vm, instance, spec):
                return await self._containers.create(vm, instance=instance, spec=spec)
            case RemoveContainer(container):
                await self._containers.remove(container)
            case BindNamespace(vm, container):
                await self._networks.bind(vm, _known(container, created))
            case UpdateLimits(container, spec):
                await self._containers.update_limits(container, spec)
            case StartContainer(_, container):
                async with self._starting:
                    await self._start(_known(container, created))
            case StopContainer(container, grace_s):
                await self._containers.stop(container, grace_s=grace_s)
            case UnpauseContainer(container):
                await self._containers.unpause(container)
            case _ as never:
                assert_never(never)
        return created

    async def _start(self, container: ContainerId) -> None:
        try:
            await self._containers.start(container)
        except NotFoundError as error:
            # Removed by somebody between observe and start: the next pass creates it anew.
            raise TransientError(f"the container vanished before it was started: {error}") from error


def _stages(actions: tuple[Action, ...]) -> list[tuple[Action, ...]]:
    """The actions in order, those of one stage to be done side by side.

    The container is created while its network is made: neither needs the other before it is bound. Both are waited
    for even if one fails, so that the next look finds what the engine has made.
    """
    stages: list[tuple[Action, ...]] = []
    for action in actions:
        if isinstance(action, CreateContainer) and stages and isinstance(stages[-1][-1], EnsureNetwork):
            stages[-1] += (action,)
        else:
            stages.append((action,))
    return stages


def _known(container: ContainerId | None, created: ContainerId | None) -> ContainerId:
    found = container or created
    assert found is not None, "plan() puts CreateContainer before every action without an id"
    return found
