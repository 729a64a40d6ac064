"""Tells oned what a VM has become without being asked: pushed states, and lines for the VM's log.

Level-triggered and latest-wins: a state is pushed at once and pushed again until oned agrees. Inside the 30 s guard
after a start oned ignores pushed states (protocol reference 5.6, rule 3). There a dead VM is left out of a full list
of its host, which the guard does not cover (rule 5); a list that misses a VM powers it off, so it is built only from
a complete picture of the host, in one go, without an await. For a VM that was frozen or thawed, oned is asked to
suspend or resume it: the SAVE or RESTORE that follows finds nothing to do.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from onedock.config.settings import OpenNebulaSettings
from onedock.controller.documents import History, VmDocument
from onedock.controller.intake import Links
from onedock.controller.metrics import Metrics
from onedock.controller.nodes import Node
from onedock.controller.oned import LCM_STATE, VM_STATE, Oned
from onedock.controller.queue import EARLY_S
from onedock.controller.registry import Registry, VmRecord
from onedock.controller.wire import im_message, state_vm, vmm_log
from onedock.reconcilers.errors import NotFoundError, OnedockError
from onedock.reconcilers.model import NodeName, Power, VmId

log = structlog.get_logger(__name__)

CONFIRM_S = 1.0
MAX_CONFIRM_S = 15.0
GUARD_MARGIN_S = 1.0

_ACTIONS = {Power.SUSPENDED: "suspend", Power.RUNNING: "resume"}
_WORDS = {Power.RUNNING: "RUNNING", Power.SUSPENDED: "SUSPENDED", Power.STOPPED: "POWEROFF"}
_IN_TRANSITION = "UNKNOWN"
"""oned ignores this word (rule 4), but whoever is listed with it is not missing: for VMs in transition."""


@dataclass(slots=True)
class _Report:
    """A state that oned has not been seen to know yet."""

    due: float
    wait_s: float = CONFIRM_S
    action: str = ""
    """What oned is to be asked for at first, instead of a push that it would ignore."""


class Reporter:
    """Pushes states.

    Args:
        node_of: the open node of a name, or None.
        answering: whether an answer for a VM is on its way to oned.
    """

    def __init__(
        self,
        *,
        settings: OpenNebulaSettings,
        registry: Registry,
        links: Links,
        oned: Oned,
        metrics: Metrics,
        node_of: Callable[[NodeName], Node | None],
        answering: Callable[[VmId], bool],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._links = links
        self._oned = oned
        self._metrics = metrics
        self._node_of = node_of
        self._answering = answering
        self._reports: dict[VmId, _Report] = {}
        self._arrived = asyncio.Event()

    def note_history(self, record: VmRecord, history: History) -> None:
        """Learn from a document when the guard of this VM ends."""
        latest = max(history.rstime, history.retime)
        if latest:
            record.guard_until = max(record.guard_until, latest + self._settings.state_guard_s + GUARD_MARGIN_S)

    def vm_log(self, vm: VmId, severity: Literal["W", "I"], text: str) -> None:
        """A line for the VM's log in OpenNebula; lost when no driver is connected (the story has it too)."""
        if link := self._links.current("vmm"):
            link.push(vmm_log(severity, vm, f"ONEDock: {text}"))

    def push(self, record: VmRecord) -> None:
        """Tell oned the VM's present power, now and until it agrees."""
        loop = asyncio.get_running_loop()
        power = record.desired.power if record.desired is not None else None
        guarded = time.time() < record.guard_until
        if guarded and power in _ACTIONS:
            self._reports[record.vm] = _Report(due=loop.time(), action=_ACTIONS[power])
        else:
            self._reports[record.vm] = _Report(due=loop.time() + CONFIRM_S)
            self._send(record)
        self._arrived.set()

    def _send(self, record: VmRecord) -> None:
        desired = record.desired
        link = self._links.current("im")
        node = self._node_of(desired.node) if desired is not None else None
        if desired is None or link is None or node is None or node.host_id < 0 or desired.power not in _WORDS:
            return  # pushed again when that has changed
        guarded = desired.power is Power.STOPPED and time.time() < record.guard_until
        if guarded and node.listed_at > 0:
            text = state_vm(self._list(node.name, without=record.vm), sync=True, missing="POWEROFF")
            way = "list"
        else:
            text = state_vm([(record.vm, _WORDS[desired.power])])
            way = "state"
        link.push(im_message("STATE_VM", True, node.host_id, int(time.time()), text))
        self._metrics.pushes.labels(way).inc()
        log.info("state pushed", vm=record.vm, power=desired.power, way=way)

    def send_full_list(self, node: Node) -> None:
        """The host's complete list, after every comparison of engine and oned: heals whatever was missed."""
        if (link := self._links.current("im")) and node.host_id >= 0:
            text = state_vm(self._list(node.name, without=None), sync=True, missing="POWEROFF")
            link.push(im_message("STATE_VM", True, node.host_id, int(time.time()), text))

    def _list(self, node: NodeName, *, without: VmId | None) -> list[tuple[int, str]]:
        entries: list[tuple[int, str]] = []
        for record in self._registry:
            desired = record.desired
            here = desired is not None and desired.node == node
            if record.vm == without:
                continue
            # What is done and not yet answered is in transition too: a VM that is missing while oned still waits for
            # SHUTDOWN is taken for dead, and the answer that follows finds another state.
            if any(intent.node == node for intent in record.intents) or (here and self._answering(record.vm)):
                entries.append((record.vm, _IN_TRANSITION))
            elif desired is not None and here and desired.power in {Power.RUNNING, Power.SUSPENDED}:
                entries.append((record.vm, _WORDS[desired.power]))
        return entries

    async def run(self) -> None:
        """Confirm pushed states with oned, and push again, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            wait = min((report.due for report in self._reports.values()), default=None)
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(wait):
                    await self._arrived.wait()
            except TimeoutError:
                pass
            now = loop.time() + EARLY_S
            for vm in [vm for vm, report in self._reports.items() if report.due <= now]:
                await self._confirm(vm)

    async def _confirm(self, vm: VmId) -> None:
        report = self._reports[vm]
        record = self._registry.find(vm)
        if record is None or record.desired is None or record.intents:
            del self._reports[vm]  # gone, or oned asked for something: its answer will say the state
            return
        try:
            if report.action:
                action, report.action = report.action, ""
                await self._ask(vm, action)
                report.due = asyncio.get_running_loop().time() + report.wait_s
                return
            document = await self._oned.vm(vm)
        except NotFoundError:
            del self._reports[vm]
            return
        except OnedockError as error:
            log.warning("cannot confirm a pushed state", vm=vm, error=str(error))
        else:
            self.note_history(record, document.history)
            if agrees(record.desired.power, document):
                del self._reports[vm]
                return
            self._send(record)
        report.wait_s = min(report.wait_s * 2, MAX_CONFIRM_S)
        report.due = asyncio.get_running_loop().time() + report.wait_s

    async def _ask(self, vm: VmId, action: str) -> None:
        await self._oned.act(vm, action)
        self._metrics.pushes.labels("action").inc()
        log.info("oned asked to follow", vm=vm, one_action=action)


def agrees(power: Power, document: VmDocument) -> bool:
    """Whether oned's state needs no push: it is the same, or oned is in the middle of something that will settle it."""
    if document.state == VM_STATE.ACTIVE:
        running = document.lcm_state == LCM_STATE.RUNNING
        waiting = document.lcm_state not in {LCM_STATE.RUNNING, LCM_STATE.UNKNOWN}
        return waiting or (running and power is Power.RUNNING)
    if power is Power.RUNNING:
        return document.state not in {VM_STATE.POWEROFF, VM_STATE.SUSPENDED}
    return True
