"""Stateful stand-ins for a node's engine and agent, and faults to put before any port.

The contract suite runs on these and on the real ones, which keeps the two alike.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, TypeVar, cast

from onedock.nodeside.engine_json import create_body, pinned_image
from onedock.reconcilers.errors import NotFoundError, TerminalError, TransientError
from onedock.reconcilers.model import (
    Container,
    ContainerId,
    ContainerSpec,
    Network,
    ObservedNetwork,
    ObservedNic,
    Phase,
    VmId,
    container_name,
)

BROKEN_COMMAND = "/no/such/program"
NEVER = "0001-01-01T00:00:00Z"
_ALIVE = {Phase.RUNNING, Phase.PAUSED}
_FIRST_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class FakeEngine:
    """An engine in memory: ``ports.Containers``, and what happens to containers without ONEDock's doing.

    Args:
        registry: references that can be pulled.
        present: references that the engine has already.
    """

    def __init__(self, *, registry: Iterable[str] = (), present: Iterable[str] = ()) -> None:
        self.registry = set(registry)
        self.images = set(present)
        self.containers: dict[ContainerId, Container] = {}
        self.specs: dict[ContainerId, ContainerSpec] = {}
        self.reachable = True
        self.pulls = 0
        self.starts = 0
        self._moments = 0

    async def ping(self) -> str:
        await self._answer()
        return "20.10.24"

    async def image_present(self, image: str) -> bool:
        await self._answer()
        return pinned_image(image) in self.images

    async def pull(self, image: str) -> None:
        await self._answer()
        if pinned_image(image) in self.images:
            return
        if image not in self.registry:
            raise TerminalError(f"the registry does not have the image: {image}")
        self.images.add(image)
        self.pulls += 1

    async def remove_image(self, image: str) -> None:
        await self._answer()
        if all(container.image != image for container in self.containers.values()):
            self.images.discard(pinned_image(image))

    async def find(self, vm: VmId) -> Container | None:
        await self._answer()
        return self._named(container_name(vm))

    async def list_ours(self) -> tuple[Container, ...]:
        await self._answer()
        ours = [container for container in self.containers.values() if container.vm is not None]
        return tuple(replace(container, pid=0, exit_code=0) for container in ours)

    async def create(self, vm: VmId, *, instance: str, spec: ContainerSpec) -> ContainerId:
        await self._answer()
        create_body(vm, instance=instance, spec=spec, runtime="onedock")
        if spec.image not in self.images:
            raise TransientError(f"the image is no longer in the engine: {spec.image}")
        found = self._named(container_name(vm))
        if found is None:
            return self._add(container_name(vm), vm, instance, spec)
        if (found.vm, found.instance, found.spec_digest) != (vm, instance, spec.digest()):
            raise TerminalError(f"the name {container_name(vm)} is taken")
        return found.id

    async def start(self, container: ContainerId) -> None:
        await self._answer()
        found = self._known(container)
        if found.phase is Phase.PAUSED:
            raise TransientError("cannot start a paused container")
        if found.phase is Phase.RUNNING:
            return
        command = self.specs[container].command
        if command is not None and command[0] == BROKEN_COMMAND:
            raise TerminalError(f'the command "{BROKEN_COMMAND}" is not in the image: no such file or directory')
        self.starts += 1
        self._set(found, phase=Phase.RUNNING, pid=1000 + self.starts, exit_code=0, started_at=self._now())

    async def stop(self, container: ContainerId, *, grace_s: float | None) -> None:
        await self._answer()
        found = self.containers.get(container)
        if found is not None and found.phase in _ALIVE:
            self._end(found, exit_code=137 if grace_s is None else 0)

    async def unpause(self, container: ContainerId) -> None:
        await self._answer()
        found = self.containers.get(container)
        if found is None or found.phase not in _ALIVE:
            raise TransientError("the container cannot be thawed")
        self._set(found, phase=Phase.RUNNING)

    async def update_limits(self, container: ContainerId, spec: ContainerSpec) -> None:
        await self._answer()
        self._set(self._known(container), limits=spec.limits())

    async def remove(self, container: ContainerId) -> None:
        await self._answer()
        self.containers.pop(container, None)

    def exit(self, vm: VmId, *, exit_code: int = 0, oom_killed: bool = False) -> None:
        """Its process ends by itself."""
        self._end(self._must(vm), exit_code=exit_code, oom_killed=oom_killed)

    def pause(self, vm: VmId) -> None:
        """Somebody freezes it by hand."""
        self._set(self._must(vm), phase=Phase.PAUSED)

    def add_foreign(self, name: str) -> ContainerId:
        """Somebody runs a container of their own under this name."""
        return self._add(name, None, "", ContainerSpec(image="foreign", hostname="foreign"))

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if not self.reachable:
            raise TransientError("the engine cannot be reached: fake")

    def _add(self, name: str, vm: VmId | None, instance: str, spec: ContainerSpec) -> ContainerId:
        container = ContainerId(f"{len(self.specs):064x}")
        self.specs[container] = spec
        self.containers[container] = Container(
            id=container,
            name=name,
            vm=vm,
            instance=instance,
            spec_digest=spec.digest() if vm is not None else "",
            image=spec.image,
            phase=Phase.CREATED,
            started_at=NEVER,
            finished_at=NEVER,
            limits=spec.limits(),
        )
        return container

    def _named(self, name: str) -> Container | None:
        return next((container for container in self.containers.values() if container.name == name), None)

    def _must(self, vm: VmId) -> Container:
        found = self._named(container_name(vm))
        assert found is not None, f"no container of VM {vm}"
        return found

    def _known(self, container: ContainerId) -> Container:
        if container not in self.containers:
            raise NotFoundError(f"No such container: {container}")
        return self.containers[container]

    def _end(self, container: Container, *, exit_code: int, oom_killed: bool = False) -> None:
        self._set(
            container,
            phase=Phase.EXITED,
            pid=0,
            exit_code=exit_code,
            oom_killed=oom_killed,
            finished_at=self._now(),
        )

    def _set(self, container: Container, **changes: Any) -> None:
        self.containers[container.id] = replace(container, **changes)

    def _now(self) -> str:
        self._moments += 1
        return (_FIRST_MOMENT + timedelta(seconds=self._moments)).isoformat(timespec="microseconds")


class FakeNetworks:
    """An agent's network side in memory: ``ports.Networks``."""

    def __init__(self) -> None:
        self.networks: dict[VmId, Network] = {}
        self.bindings: dict[VmId, tuple[ContainerId, ...]] = {}
        self.unusable_devices: set[str] = set()
        """Bridges and physical devices that cannot work."""
        self.announced: list[VmId] = []
        self.links_down: set[VmId] = set()
        """VMs whose links somebody has set down by hand; ``ensure`` raises them again."""
        self.reachable = True
        self.delay_s = 0.0
        """How long ``ensure`` takes."""

    async def observe(self, vm: VmId) -> ObservedNetwork | None:
        await self._answer()
        return self._observed(vm)

    async def ensure(self, network: Network) -> ObservedNetwork:
        await self._answer()
        await asyncio.sleep(self.delay_s)
        for nic in network.nics:
            for device in {nic.bridge, nic.phydev} & self.unusable_devices:
                raise TerminalError(f"the device {device} cannot be used")
        self.networks[network.vm] = network
        self.links_down.discard(network.vm)
        observed = self._observed(network.vm)
        assert observed is not None
        return observed

    async def bind(self, vm: VmId, container: ContainerId) -> None:
        await self._answer()
        if vm not in self.networks:
            raise TransientError(f"VM {vm} has no namespace")
        bound = self.bindings.get(vm, ())
        self.bindings[vm] = bound if container in bound else (*bound, container)

    async def remove(self, vm: VmId) -> None:
        await self._answer()
        self.networks.pop(vm, None)
        self.bindings.pop(vm, None)

    async def announce(self, vm: VmId) -> None:
        await self._answer()
        if vm not in self.networks:
            raise NotFoundError(f"VM {vm} has no namespace")
        self.announced.append(vm)

    async def list_vms(self) -> tuple[VmId, ...]:
        await self._answer()
        return tuple(sorted(self.networks))

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if not self.reachable:
            raise TransientError("the agent cannot be reached: fake")

    def _observed(self, vm: VmId) -> ObservedNetwork | None:
        if vm not in self.networks:
            return None
        up = vm not in self.links_down
        nics = tuple(ObservedNic(nic, up=up, carrier=up) for nic in self.networks[vm].nics)
        return ObservedNetwork(vm=vm, nics=nics, containers=self.bindings.get(vm, ()))


class Fault(Enum):
    """How a call fails."""

    NONE = "none"
    BEFORE = "before"
    """The request never arrives."""
    AFTER = "after"
    """It is done, but the reply is lost."""


Port = TypeVar("Port")


def faulty(port: Port, decide: Callable[[str], Fault]) -> Port:
    """The same port, each of whose calls fails as ``decide`` says of the method's name."""
    return cast("Port", _Faulty(port, decide))


class _Faulty:
    def __init__(self, port: object, decide: Callable[[str], Fault]) -> None:
        self._port = port
        self._decide = decide

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        async def call(*args: Any, **kwargs: Any) -> Any:
            fault = self._decide(name)
            if fault is Fault.BEFORE:
                raise TransientError(f"{name}: the request was lost")
            result = await attribute(*args, **kwargs)
            if fault is Fault.AFTER:
                raise TransientError(f"{name}: the reply was lost")
            return result

        return call
