"""What this process has loaded, so that reading the kernel can tell whether it is still that."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock

from onedock.nodeside.agent.firewall import kernel, shared
from onedock.nodeside.agent.firewall.document import Part, Ruleset
from onedock.nodeside.agent.firewall.ruleset import INSIDE
from onedock.nodeside.agent.steps.rules import Scope
from onedock.reconcilers.model import VmId

DAMAGED = "damaged"
"""Instead of a digest: somebody changed the rules, or an earlier agent loaded them."""

_Key = tuple[VmId, Scope]


@dataclass(frozen=True, slots=True)
class _Known:
    digest: str = DAMAGED
    fingerprint: str = ""
    nics: frozenset[int] = frozenset()
    """In the table that VMs share: those that something may be there of."""
    again: bytes = b""
    """There too: what puts all of it back."""


class Loaded:
    """Rules of all VMs. The caller holds the VM's lock, and is in the namespace that the scope means."""

    def __init__(self) -> None:
        self._lock = Lock()
        # Who puts many parts back holds none of their VMs' locks.
        self._changing_parts = Lock()
        self._known: dict[_Key, _Known | None] = {}
        """None: there is nothing. Without an entry: not looked at yet."""
        self._left: dict[VmId, frozenset[int]] | None = None
        """What an earlier agent has left in the shared table; None: not looked at yet."""

    def look(self, vm: VmId, scope: Scope, place: AbstractContextManager[None]) -> str | None:
        """The digest of what is there, or ``DAMAGED``; None when nothing is.

        ``place`` is where to look; a VM that never had rules costs nothing. Raises TransientError.
        """
        key = (vm, scope)
        if key in self._known and self._known[key] is None:
            return None
        with place:
            known = self._current(key)
            found = _fingerprint(vm, scope, known) if known is not None else None
        if known is None or found is None:
            self._keep(key, None)
            return None
        return known.digest if known.fingerprint == found else DAMAGED

    def load(self, vm: VmId, scope: Scope, ruleset: Ruleset) -> None:
        """Replace the rules. Raises TransientError or TerminalError."""
        key = (vm, scope)
        if ruleset.part is None:
            self._keep(key, _Known(ruleset.digest, kernel.load(ruleset)))
            return
        known, nics = self._current(key), ruleset.part.nics
        before = known.nics if known is not None else frozenset[int]()
        with self._changing_parts:
            # First what may be there whatever becomes of the transaction.
            self._keep(key, _Known(nics=before | nics))
            loaded = shared.load(ruleset, before)
            self._keep(key, _Known(ruleset.digest, loaded.fingerprint, nics, loaded.again))

    def load_again(self, vms: Iterable[VmId]) -> dict[VmId, str]:
        """Put back, of these VMs' parts of the shared table, what is not as it was loaded; their digests.

        For whoever is in the agent's namespace. What cannot be put back is left to its VM's own look.
        """
        with self._changing_parts:
            known = {vm: one for vm in vms if (one := self._known.get((vm, Scope.NODE))) is not None and one.again}
            harmed = shared.harmed((Part(vm, one.nics), one.fingerprint) for vm, one in known.items())
            lost = {vm: known[vm].again for vm in harmed}
            return {vm: known[vm].digest for vm in shared.load_again(lost)} if lost else {}

    def drop(self, vm: VmId, scope: Scope) -> None:
        """Remove the rules, if there are some. Raises TransientError."""
        key = (vm, scope)
        if (known := self._current(key)) is not None:
            if scope is Scope.VM:
                kernel.unload(INSIDE)
            else:
                with self._changing_parts:
                    self._keep(key, _Known(nics=known.nics))
                    shared.unload(Part(vm, known.nics))
        self._keep(key, None)

    def forget(self, vm: VmId) -> None:
        """The VM is gone, with everything of it."""
        with self._lock:
            for scope in Scope:
                self._known.pop((vm, scope), None)
            if self._left is not None:
                self._left.pop(vm, None)

    def _current(self, key: _Key) -> _Known | None:
        """What is known, or can only be damaged because another process loaded it."""
        with self._lock:
            if key in self._known:
                return self._known[key]
            vm, scope = key
            if scope is Scope.VM:
                return _Known()
            if self._left is None:
                self._left = shared.left()
            return _Known(nics=self._left[vm]) if vm in self._left else None

    def _keep(self, key: _Key, known: _Known | None) -> None:
        with self._lock:
            self._known[key] = known


def _fingerprint(vm: VmId, scope: Scope, known: _Known) -> str | None:
    return kernel.fingerprint(INSIDE) if scope is Scope.VM else shared.fingerprint(Part(vm, known.nics))


LOADED = Loaded()
"""One for the process, as the kernel is one."""
