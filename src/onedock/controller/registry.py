"""The VMs that the controller knows, in memory: desired state, open intents, conditions, last look.

A cache and an index over the journal, no decisions. What the journal lost comes back with the next resync.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from onedock.controller.intents import Intent
from onedock.controller.journal import Journal
from onedock.controller.journal_rows import Contents
from onedock.reconcilers.model import Condition, Desired, NodeName, Observed, Phase, VmId


@dataclass(slots=True)
class VmRecord:
    """What is known of one VM."""

    vm: VmId
    desired: Desired | None = None
    name: str = ""
    intents: deque[Intent] = field(default_factory=deque)
    conditions: dict[str, Condition] = field(default_factory=dict)
    observed: Observed | None = None
    observed_at: float = 0.0
    guard_until: float = 0.0
    """Unix time until which oned ignores pushed states of this VM."""
    one_state: tuple[int, int] | None = None
    """(STATE, LCM_STATE) as of the last resync."""
    error: str = ""
    """Why the last pass failed; empty after a good one."""
    retry_in_s: float = 0.0

    @property
    def phase(self) -> Phase | None:
        """The container's phase at the last look; None: no container, or not looked yet."""
        container = self.observed.container if self.observed else None
        return container.phase if container else None


class Registry:
    """All records, by VM."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._records: dict[VmId, VmRecord] = {}

    def __iter__(self) -> Iterator[VmRecord]:
        return iter(tuple(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def restore(self, contents: Contents) -> None:
        """Fill from the journal, at start."""
        for desired in contents.desired:
            self.record(desired.vm).desired = desired
            if desired.spec is not None:
                self.record(desired.vm).name = desired.spec.name
        for intent in contents.intents:
            if intent.vm is not None:
                self.record(intent.vm).intents.append(intent)
        for vm, condition in contents.conditions:
            self.record(vm).conditions[condition.name] = condition

    def record(self, vm: VmId) -> VmRecord:
        """The record of a VM, made if it is new."""
        if vm not in self._records:
            self._records[vm] = VmRecord(vm)
        return self._records[vm]

    def find(self, vm: VmId) -> VmRecord | None:
        """The record of a VM, if it is known."""
        return self._records.get(vm)

    def on_node(self, node: NodeName) -> tuple[VmRecord, ...]:
        """Records whose desired state is on this node."""
        return tuple(r for r in self if r.desired is not None and r.desired.node == node)

    async def want(self, desired: Desired) -> None:
        """Replace the desired state, durably."""
        await self._journal.put_desired(desired)
        self.note_desired(desired)

    def note_desired(self, desired: Desired) -> None:
        """Take over a desired state that is durable already."""
        record = self.record(desired.vm)
        record.desired = desired
        if desired.spec is not None:
            record.name = desired.spec.name

    def saw(self, vm: VmId, observed: Observed) -> None:
        """Keep the last look at a VM."""
        record = self.record(vm)
        record.observed = observed
        record.observed_at = time.time()

    async def set_condition(self, vm: VmId, name: str, *, ok: bool, reason: str, message: str = "") -> bool:
        """Set a condition; its ``since`` stays while its truth stays. Returns whether anything changed."""
        record = self.record(vm)
        old = record.conditions.get(name)
        since = old.since if old is not None and old.ok == ok else time.time()
        new = Condition(name=name, ok=ok, reason=reason, message=message, since=since)
        if old == new:
            return False
        record.conditions[name] = new
        await self._journal.put_condition(vm, new)
        return True

    async def forget(self, vm: VmId) -> None:
        """Drop a VM that is gone, unless a request for it is still open."""
        record = self._records.get(vm)
        if record is None or record.intents:
            return
        del self._records[vm]
        await self._journal.forget(vm)
