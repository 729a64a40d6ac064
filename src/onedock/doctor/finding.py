"""What a check says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from onedock.doctor.facts import Facts
from onedock.reconcilers.model import NodeName, VmId


class Severity(IntEnum):
    """How bad it is; the worst one is the exit status, as monitoring systems want it."""

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class RemoveNetwork:
    """A safe remedy: remove a namespace that belongs to no VM and has no container; nothing of value is in it."""

    node: NodeName
    vm: VmId


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: the cause in one line, and the command or change that mends it."""

    severity: Severity
    cause: str
    remedy: str
    fix: RemoveNetwork | None = None
    """What ``--fix`` does about it; None: only people may."""


Check = Callable[[Facts], Iterator[Finding]]
"""A check judges facts and asks nobody. What could not be found out is the finding of the check of its cause."""


def error(cause: str, remedy: str) -> Finding:
    """Something does not work."""
    return Finding(Severity.ERROR, cause, remedy)


def warning(cause: str, remedy: str, fix: RemoveNetwork | None = None) -> Finding:
    """Something works, and may not for long."""
    return Finding(Severity.WARNING, cause, remedy, fix)
