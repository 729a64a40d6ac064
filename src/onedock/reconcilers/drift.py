"""What happened to a VM without OpenNebula asking for it, and what is wanted of it from then on. Pure.

A container that dies, is frozen or removed by hand is not fought: OpenNebula is told, and the desired state follows
(architecture section 6).
"""

import signal
from dataclasses import dataclass
from typing import assert_never

from onedock.reconcilers.model import Container, Desired, Observed, Phase, Power

_SIGNALLED = 128
_SIGNALS = frozenset(signal.Signals)
_MISSED = 255
"""What dockerd notes of a process whose shim is gone (its package ``libcontainerd``)."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A change from outside: the power to adopt, a word for machines and a sentence for the VM's log."""

    power: Power
    reason: str
    message: str


def find_drift(desired: Desired, observed: Observed) -> Drift | None:
    """The change from outside that ``observed`` shows, if any. Only meaningful while no request of oned is open.

    The loss of a stopped container is found in every look: its power stays, and who tells it does so once.
    """
    if desired.power is Power.ABSENT or desired.spec is None:
        return None
    container = observed.container
    if container is None or container.vm != desired.vm:
        return Drift(
            Power.STOPPED,
            "ContainerRemoved",
            "the container was removed by hand: the changes of its root disk are lost; "
            "resume makes it anew from the image",
        )
    if desired.power is Power.STOPPED:
        return None
    match container.phase:
        case Phase.EXITED | Phase.DEAD | Phase.REMOVING:
            return Drift(Power.STOPPED, "OutOfMemory" if container.oom_killed else "Exited", describe_exit(container))
        case Phase.PAUSED if desired.power is Power.RUNNING:
            return Drift(Power.SUSPENDED, "Paused", "the container was paused by hand; resume continues it")
        case Phase.RUNNING if desired.power is Power.SUSPENDED:
            return Drift(Power.RUNNING, "Unpaused", "the container was continued by hand")
    return None


def looks_as_wanted(desired: Desired, container: Container | None, *, plugged: bool) -> bool:
    """Whether an entry of a node's full lists shows what is wanted, so that the VM needs no look of its own.

    Args:
        desired: what is wanted.
        container: from the engine's list, so without limits and exit code.
        plugged: whether the agent lists a namespace for the VM.
    """
    phase = container.phase if container is not None else None
    match desired.power:
        case Power.RUNNING:
            return phase is Phase.RUNNING and plugged and desired.restart_from is None
        case Power.SUSPENDED:
            return phase is Phase.PAUSED and plugged
        case Power.STOPPED:
            return phase in {Phase.EXITED, Phase.CREATED} and not plugged
        case Power.ABSENT:
            return False
    assert_never(desired.power)


def describe_exit(container: Container) -> str:
    """One sentence: exit code, signal, out of memory, the engine's own words."""
    text = f"the container's process ended with exit code {container.exit_code}"
    if container.exit_code == _MISSED:
        text += " (its own, or the engine did not see it end, as when the node was rebooted)"
    elif (number := container.exit_code - _SIGNALLED) in _SIGNALS:
        text += f" ({signal.Signals(number).name})"
    if container.oom_killed:
        text += ": it ran out of memory (raise MEMORY)"
    if container.error:
        text += f": {container.error}"
    return text
