"""What each action does to an ``Observed``: the pure twin of engine and agent, for property tests of ``plan``."""

import itertools
from dataclasses import replace
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
from onedock.reconcilers.model import (
    Container,
    ContainerId,
    Network,
    Observed,
    ObservedNetwork,
    ObservedNic,
    Phase,
    container_name,
)

NEVER = "0001-01-01T00:00:00Z"
_ids = itertools.count(1)


def effect(observed: Observed, action: Action) -> Observed:
    """The state after ``action``. Asserts what engine and agent would refuse."""
    container, network = observed.container, observed.network
    match action:
        case PullImage():
            return replace(observed, image_present=True)
        case EnsureNetwork(wanted):
            return replace(observed, network=provided(wanted, network.containers if network else ()))
        case RemoveNetwork():
            return replace(observed, network=None)
        case CreateContainer(vm, instance, spec):
            assert container is None, "the name is taken"
            assert observed.image_present, "no such image"
            created = Container(
                id=ContainerId(f"new-{next(_ids)}"),
                name=container_name(vm),
                vm=vm,
                instance=instance,
                spec_digest=spec.digest(),
                image=spec.image,
                phase=Phase.CREATED,
                started_at=NEVER,
                limits=spec.limits(),
            )
            return replace(observed, container=created)
        case RemoveContainer(target):
            assert container is not None
            assert container.id == target
            return replace(observed, container=None)
        case BindNamespace(_, target):
            assert network is not None, "no namespace to bind to"
            found = _meant(container, target)
            return replace(observed, network=replace(network, containers=(*network.containers, found.id)))
        case UpdateLimits(target, spec):
            return replace(observed, container=replace(_meant(container, target), limits=spec.limits()))
        case StartContainer(_, target):
            found = _meant(container, target)
            assert found.phase is not Phase.PAUSED, "the engine does not start a paused container"
            assert network is not None, "started without a network"
            assert found.id in network.containers, "started outside of its network"
            return replace(
                observed, container=replace(found, phase=Phase.RUNNING, pid=7, started_at=f"run-{next(_ids)}")
            )
        case StopContainer(target, _):
            found = _meant(container, target)
            assert found.phase is not Phase.PAUSED, "a paused process cannot end with grace"
            return replace(observed, container=replace(found, phase=Phase.EXITED, pid=0))
        case UnpauseContainer(target):
            found = _meant(container, target)
            assert found.phase is Phase.PAUSED
            return replace(observed, container=replace(found, phase=Phase.RUNNING))
        case _ as never:
            assert_never(never)


def provided(network: Network, containers: tuple[ContainerId, ...] = ()) -> ObservedNetwork:
    """A network exactly as wanted."""
    return ObservedNetwork(network.vm, tuple(ObservedNic(nic, up=True) for nic in network.nics), containers)


def _meant(container: Container | None, target: ContainerId | None) -> Container:
    assert container is not None, "no container"
    assert target in {None, container.id}, "another container"
    return container
