"""What this process has loaded, so that reading the kernel can tell whether it is still that."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock

from onedock.nodeside.agent.firewall import kernel
from onedock.nodeside.agent.firewall.document import Ruleset, Table
from onedock.nodeside.agent.firewall.ruleset import INSIDE, outside
from onedock.nodeside.agent.steps.rules import Scope
from onedock.reconcilers.model import VmId

DAMAGED = "damaged"
"""Instead of a digest: somebody changed the rules, or an earlier agent loaded them."""


@dataclass(frozen=True, slots=True)
class _Known:
    digest: str
    fingerprint: str


class Loaded:
    """Rules of all VMs. The caller holds the VM's lock, and is in the namespace that the scope means."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[tuple[VmId, Scope], _Known | None] = {}
        """None: there is nothing. Without an entry: not looked at yet."""

    def look(self, vm: VmId, scope: Scope, place: AbstractContextManager[None]) -> str | None:
        """The digest of what is there, or ``DAMAGED``; None when nothing is.

        ``place`` is where to look; a VM that never had rules costs nothing. Raises TransientError.
        """
        key = (vm, scope)
        known = self._known.get(key)
        if known is None and key in self._known:
            return None
        with place:
            found = kernel.fingerprint(_tables(vm, scope))
        if found is None:
            self._keep(vm, scope, None)
            return None
        return known.digest if known is not None and known.fingerprint == found else DAMAGED

    def load(self, vm: VmId, scope: Scope, ruleset: Ruleset) -> None:
        """Replace the rules. Raises TransientError or TerminalError."""
        self._keep(vm, scope, _Known(ruleset.digest, kernel.load(ruleset)))

    def drop(self, vm: VmId, scope: Scope) -> None:
        """Remove the rules, if there are some. Raises TransientError."""
        if (vm, scope) not in self._known or self._known[vm, scope] is not None:
            kernel.unload(_tables(vm, scope))
        self._keep(vm, scope, None)

    def forget(self, vm: VmId) -> None:
        """The VM is gone, with everything of it."""
        with self._lock:
            for scope in Scope:
                self._known.pop((vm, scope), None)

    def _keep(self, vm: VmId, scope: Scope, known: _Known | None) -> None:
        with self._lock:
            self._known[vm, scope] = known


def _tables(vm: VmId, scope: Scope) -> tuple[Table, ...]:
    return INSIDE if scope is Scope.VM else outside(vm)


LOADED = Loaded()
"""One for the process, as the kernel is one."""
