"""The plan of one VM: from what is wanted and what is there to the actions that are missing. Pure.

Called by ``runner.converge`` for every pass and by dry runs. No clock, no I/O, no vendor: the same input gives the
same tuple. ``plan`` of a state that ``plan`` has brought about is empty (property-tested).
"""

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
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Container, Desired, Observed, Phase, Power, VmSpec, container_name

ALIVE = frozenset({Phase.RUNNING, Phase.PAUSED, Phase.RESTARTING})


def plan(desired: Desired, observed: Observed) -> tuple[Action, ...]:
    """The actions that turn ``observed`` into ``desired``, in order.

    Raises:
        TerminalError: a foreign container holds the VM's name, or the spec to run is missing.
    """
    match desired.power:
        case Power.RUNNING:
            return _plan_running(desired, observed)
        case Power.SUSPENDED:
            return _plan_frozen(desired, observed)
        case Power.STOPPED:
            return _plan_stopped(desired, observed)
        case Power.ABSENT:
            return _plan_absent(desired, observed)
    assert_never(desired.power)


def is_stale(container: Container, spec: VmSpec) -> bool:
    """Whether a left-over has to go: another VM's with this id, half removed, or never started and specified otherwise.

    A container that ran holds the user's files; it is kept whatever its spec was.
    """
    if container.instance != spec.instance or container.phase in {Phase.DEAD, Phase.REMOVING}:
        return True
    return not container.ever_started and container.spec_digest != spec.container.digest()


def _plan_running(desired: Desired, observed: Observed) -> tuple[Action, ...]:
    spec = desired.spec
    if spec is None:
        raise TerminalError(
            f"VM {desired.vm} is to run, but nothing is known of it; deploy it again (onevm recover --retry)"
        )
    container = _ours(desired, observed.container)
    actions: list[Action] = []
    if container is not None and is_stale(container, spec):
        actions.append(RemoveContainer(container.id))
        container = None
    if observed.network is None or not observed.network.provides(spec.network):
        actions.append(EnsureNetwork(spec.network))
    if container is None:
        if not observed.image_present:
            actions.append(PullImage(spec.container.image))
        actions.append(CreateContainer(desired.vm, spec.instance, spec.container))
        actions.append(BindNamespace(desired.vm, None))
        actions.append(StartContainer(desired.vm, None))
        return tuple(actions)
    if container.limits != spec.container.limits():
        actions.append(UpdateLimits(container.id, spec.container))
    bound = observed.network is not None and container.id in observed.network.containers
    if not bound:
        actions.append(BindNamespace(desired.vm, container.id))
    if container.phase is Phase.PAUSED:
        actions.append(UnpauseContainer(container.id))
    if container.phase not in ALIVE:
        actions.append(StartContainer(desired.vm, container.id))
    elif desired.restart_from is not None and desired.restart_from == container.started_at:
        actions.append(StopContainer(container.id, desired.grace_s))
        actions.append(StartContainer(desired.vm, container.id))
    return tuple(actions)


def _plan_frozen(desired: Desired, observed: Observed) -> tuple[Action, ...]:
    """The container is somebody's; its network still answers for it, and has to answer for no other address."""
    if desired.spec is None or observed.network is None or observed.network.provides(desired.spec.network):
        return ()
    return (EnsureNetwork(desired.spec.network),)


def _plan_stopped(desired: Desired, observed: Observed) -> tuple[Action, ...]:
    container = _ours(desired, observed.container)
    actions: list[Action] = []
    if container is not None and container.phase in ALIVE:
        actions += _stopping(container, desired.grace_s)
    if observed.network is not None:
        # A namespace without a process still answers pings: a powered-off VM must not.
        actions.append(RemoveNetwork(desired.vm))
    return tuple(actions)


def _plan_absent(desired: Desired, observed: Observed) -> tuple[Action, ...]:
    actions: list[Action] = []
    container = observed.container
    if container is not None and container.vm == desired.vm:
        if container.phase in ALIVE and desired.grace_s is not None:
            actions += _stopping(container, desired.grace_s)
        actions.append(RemoveContainer(container.id))
    if observed.network is not None:
        actions.append(RemoveNetwork(desired.vm))
    return tuple(actions)


def _stopping(container: Container, grace_s: float | None) -> tuple[Action, ...]:
    stop = StopContainer(container.id, grace_s)
    return (UnpauseContainer(container.id), stop) if container.phase is Phase.PAUSED else (stop,)


def _ours(desired: Desired, container: Container | None) -> Container | None:
    """The container, if it may be touched."""
    if container is not None and container.vm != desired.vm:
        raise TerminalError(
            f"the name {container_name(desired.vm)} is taken by a container that is not ONEDock's; rename or remove it"
        )
    return container
