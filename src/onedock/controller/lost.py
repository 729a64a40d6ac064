"""Requests that never reached the journal, or whose answer never reached oned: made again from oned's own document.

A driver or an oned that is killed takes with it what was in its pipes, and oned never asks twice (protocol reference
1.1, 2.7). A VM that waits in oned, with no request of ours open and no answer on its way, waits for ever. Called by
``resync``.
"""

import asyncio
import time
from collections.abc import Callable, Container
from xml.sax.saxutils import escape

import structlog

from onedock.controller.delivery import Delivery
from onedock.controller.documents import VmDocument, number_of
from onedock.controller.intents import Channel, NewIntent
from onedock.controller.journal import Journal
from onedock.controller.oned import LCM_STATE, VM_STATE, Oned
from onedock.controller.registry import VmRecord
from onedock.controller.xml import parse_xml
from onedock.reconcilers.model import VmId

log = structlog.get_logger(__name__)

LOST_AFTER_S = 5.0
"""How long a VM may wait in oned for something nobody asked us for, before the request counts as lost."""

_ASKED = {
    LCM_STATE.BOOT: "DEPLOY",
    LCM_STATE.BOOT_POWEROFF: "DEPLOY",
    LCM_STATE.BOOT_UNKNOWN: "DEPLOY",
    LCM_STATE.BOOT_SUSPENDED: "RESTORE",
    LCM_STATE.SHUTDOWN: "SHUTDOWN",
    LCM_STATE.SHUTDOWN_POWEROFF: "SHUTDOWN",
    LCM_STATE.CLEANUP_RESUBMIT: "CLEANUP",
    LCM_STATE.CLEANUP_DELETE: "CLEANUP",
    LCM_STATE.HOTPLUG_NIC: "ATTACHNIC",
    LCM_STATE.HOTPLUG: "UPDATECONF",
}
"""What oned asked a VM's driver for, by the state in which it waits (protocol reference 2.3)."""
_NIC_ACTIONS = {23: "ATTACHNIC", 24: "DETACHNIC", 46: "ATTACHNIC", 47: "DETACHNIC", 51: "UPDATENIC"}
"""In HOTPLUG_NIC the history's last but one record tells which: NICs, aliases, updates (protocol reference 9.1)."""
_HARD = frozenset({20, 28})
"""History actions poweroff-hard and terminate-hard: CANCEL was sent (protocol reference 9.1)."""


class LostRequests:
    """Finds and repeats them."""

    def __init__(self, *, journal: Journal, oned: Oned, delivery: Delivery, due: Callable[..., None]) -> None:
        self._journal = journal
        self._oned = oned
        self._delivery = delivery
        self._due = due
        self._waiting_since: dict[VmId, tuple[int, float]] = {}

    @property
    def suspects(self) -> int:
        """How many VMs wait in oned without a request of ours, for now."""
        return len(self._waiting_since)

    def forget_others(self, present: Container[VmId]) -> None:
        """Drop suspects that oned does not list any more."""
        self._waiting_since = {vm: seen for vm, seen in self._waiting_since.items() if vm in present}

    async def look(self, record: VmRecord, vm: VmDocument) -> None:
        """Look at one VM as oned lists it; repeat its request when it has waited too long for nothing.

        Raises:
            TransientError: oned or the journal did not answer.
        """
        action = _ASKED.get(vm.lcm_state) if vm.state == VM_STATE.ACTIVE else None
        if action is None or record.intents or self._delivery.waiting(vm.id):
            self._waiting_since.pop(vm.id, None)
            return
        now = asyncio.get_running_loop().time()
        lcm_state, since = self._waiting_since.get(vm.id, (-1, 0.0))
        if lcm_state != vm.lcm_state:
            self._waiting_since[vm.id] = (vm.lcm_state, now)
        elif now - since >= LOST_AFTER_S:
            if action == "SHUTDOWN" and vm.history.action in _HARD:
                action = "CANCEL"
            await self._repeat(record, vm, action)
            del self._waiting_since[vm.id]

    async def _repeat(self, record: VmRecord, vm: VmDocument, action: str) -> None:
        document = await self._oned.vm_xml(vm.id)
        if vm.lcm_state in {LCM_STATE.HOTPLUG_NIC, LCM_STATE.HOTPLUG}:
            action = _nic_request(document) if vm.lcm_state == LCM_STATE.HOTPLUG_NIC else _hot_request(document)
            if not action:
                log.warning("oned waits for a change of a VM, and does not say for which", vm=vm.id)
                return
        host = escape(vm.history.node)
        new = NewIntent(
            source=f"lost:{vm.id}:{vm.history.seq}:{vm.lcm_state}:{time.time_ns()}",
            channel=Channel.VMM,
            action=action,
            vm=vm.id,
            node=vm.history.node,
            payload=f"<VMM_DRIVER_ACTION_DATA><HOST>{host}</HOST>{document}</VMM_DRIVER_ACTION_DATA>",
            received=time.time(),
            lcm_state=vm.lcm_state,
            history_seq=vm.history.seq,
        )
        intent = await self._journal.accept(new)
        if intent is not None:
            log.warning("a request of oned was lost and is made again", vm=vm.id, action=action, intent_id=intent.id)
            record.intents.append(intent)
            self._due(vm.id)


def _nic_request(document: str) -> str:
    """What was asked about a NIC, by the VM's whole document; empty when that does not say."""
    records = parse_xml(document).findall("HISTORY_RECORDS/HISTORY")
    return _NIC_ACTIONS.get(number_of(records[-2], "ACTION"), "") if len(records) > 1 else ""


def _hot_request(document: str) -> str:
    """UPDATECONF, unless the document tells of a disk on its way, or of a command, which are refused as they come."""
    root = parse_xml(document)
    marks = (*root.findall("TEMPLATE/DISK/ATTACH"), *root.findall("TEMPLATE/QEMU_GA_EXEC"))
    return "" if marks else "UPDATECONF"
