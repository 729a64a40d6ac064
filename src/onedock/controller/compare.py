"""Desired versus observed, field by field, and a plan in words. Pure. Called by the API."""

from dataclasses import asdict, dataclass
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
    ContainerSpec,
    Desired,
    Nic,
    Observed,
    ObservedNic,
    Phase,
    Power,
)
from onedock.reconcilers.vm import is_stale

_MIB = 1024 * 1024
_FITTING = {
    Power.RUNNING: frozenset({Phase.RUNNING}),
    Power.SUSPENDED: frozenset({Phase.PAUSED}),
    Power.STOPPED: frozenset({Phase.EXITED, Phase.CREATED, Phase.DEAD, None}),
    Power.ABSENT: frozenset({None}),
}
_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field: what is wanted, what is there, and whether that is the same."""

    field: str
    desired: str
    observed: str
    same: bool


def compare(desired: Desired, observed: Observed) -> tuple[FieldRow, ...]:
    """All fields that can be compared, in the order in which people ask for them."""
    container = observed.container
    phase = container.phase if container is not None else None
    rows = [FieldRow("power", desired.power, describe_phase(container), phase in _FITTING[desired.power])]
    spec = desired.spec
    if spec is None or desired.power is Power.ABSENT:
        return (*rows, FieldRow("network", "none", "plugged" if observed.network else "none", not observed.network))
    if container is not None:
        # A container that ran is kept whatever its spec was: other words of it are no difference to be mended.
        made_from = "this" if container.spec_digest == spec.container.digest() else "an earlier one"
        stale = is_stale(container, spec)
        rows.append(FieldRow("specification", "this", f"{made_from}{', to be made anew' if stale else ''}", not stale))
        rows.append(_limits(spec.container, container))
    elif desired.power is Power.RUNNING:
        present = "in the engine" if observed.image_present else "not in the engine"
        rows.append(FieldRow("image", spec.container.image, present, observed.image_present))
    rows += _nics(desired, observed, spec.network.nics)
    return tuple(rows)


def describe_phase(container: Container | None) -> str:
    """The container's state in words."""
    if container is None:
        return "no container"
    if container.phase in {Phase.EXITED, Phase.DEAD}:
        return f"{container.phase}, exit code {container.exit_code}{', out of memory' if container.oom_killed else ''}"
    return container.phase


def _limits(spec: ContainerSpec, container: Container) -> FieldRow:
    wanted, seen = spec.limits(), container.limits
    return FieldRow("limits", _limits_text(wanted), _limits_text(seen), wanted == seen)


def _limits_text(limits: tuple[int, int, int, int]) -> str:
    shares, quota_us, memory, pids = limits
    cores = f"{quota_us / 100_000:g} cores" if quota_us else "all cores"
    return f"{cores}, weight {shares}, {memory // _MIB} MB, {pids} processes"


def _nics(desired: Desired, observed: Observed, nics: tuple[Nic, ...]) -> list[FieldRow]:
    seen = {one.nic.index: one for one in observed.network.nics} if observed.network is not None else {}
    if desired.power is Power.STOPPED:
        return [FieldRow("network", "unplugged", "plugged" if observed.network else "unplugged", not observed.network)]
    rows = [_nic(nic, seen.get(nic.index)) for nic in nics]
    others = sorted(seen.keys() - {nic.index for nic in nics})
    rows += [FieldRow(seen[index].nic.name, "none", "plugged", same=False) for index in others]
    return rows


def _nic(nic: Nic, seen: ObservedNic | None) -> FieldRow:
    if seen is None:
        return FieldRow(nic.name, _nic_text(nic), "unplugged", same=False)
    wanted, found = asdict(nic), asdict(seen.nic)
    different = [name for name, value in wanted.items() if found[name] != value]
    if different:
        parts = [f"{name} {_value(found[name])} (wanted {_value(wanted[name])})" for name in different]
        return FieldRow(nic.name, _nic_text(nic), "; ".join(parts), same=False)
    return FieldRow(nic.name, _nic_text(nic), "as wanted" if seen.up else "down", seen.up)


def _nic_text(nic: Nic) -> str:
    return f"{nic.mac} {', '.join(nic.addresses) or 'no address'} on {nic.bridge}"


def _value(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or _NOTHING
    return _NOTHING if value in {None, ""} else str(value)


def describe_action(action: Action) -> str:
    """What an action of a plan would do, as a short sentence."""
    match action:
        case PullImage(image):
            return f"pull {image}"
        case EnsureNetwork(network):
            names = ", ".join(f"{nic.name} on {nic.bridge}" for nic in network.nics) or "a namespace without NICs"
            return f"make the network: {names}"
        case RemoveNetwork():
            return "remove the network"
        case CreateContainer(_, _, spec):
            return f"create the container from {spec.image}"
        case RemoveContainer(container):
            return f"remove the container {container[:12]} with its changes"
        case BindNamespace():
            return "bind the namespace to the container"
        case UpdateLimits(_, spec):
            return f"set the limits: {_limits_text(spec.limits())}"
        case StartContainer():
            return "start the container"
        case StopContainer(_, grace_s):
            return "kill the container" if grace_s is None else f"stop the container, after {grace_s:g} s kill it"
        case UnpauseContainer():
            return "continue the frozen container"
    assert_never(action)
