"""Compares what the controller wants with what oned and the engines say: at start, on every gap, and slowly for ever.

Heals whatever no request and no event told: a lost journal, a request lost with its driver, a container that died
while nobody listened, VMs that OpenNebula forgot. Never acts on ignorance: a list that could not be read changes
nothing.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from onedock.config.settings import Settings
from onedock.controller import verbs
from onedock.controller.delivery import Delivery
from onedock.controller.describe import describe
from onedock.controller.documents import VmDocument
from onedock.controller.image_cache import ImageCache
from onedock.controller.intents import Channel
from onedock.controller.journal import Journal
from onedock.controller.lost import LOST_AFTER_S, LostRequests
from onedock.controller.nodes import Node, Nodes
from onedock.controller.oned import LCM_STATE, VM_STATE, Oned
from onedock.controller.plugged import PluggedNics
from onedock.controller.registry import Registry, VmRecord
from onedock.controller.reporter import Reporter
from onedock.reconcilers.drift import looks_as_wanted
from onedock.reconcilers.errors import NotFoundError, OnedockError, TerminalError
from onedock.reconcilers.model import Container, Desired, NodeName, Power, VmId

log = structlog.get_logger(__name__)

PRUNE_S = 3600.0
KEEP_CLOSED_INTENTS_S = 7 * 86400.0
KEEP_LOG_S = 90 * 86400.0
RETRY_S = 5.0
REFRESH_S = 3600.0
"""Age at which the last look at a VM that is listed as wanted is too old."""
MANY = 2000
"""Above so many VMs, comparisons become rarer in proportion: each VM costs 0.3 ms of CPU."""
REFRESHES_PER_S = 20
_ALIVE = frozenset({LCM_STATE.RUNNING, LCM_STATE.UNKNOWN})
_AT_REST = {VM_STATE.POWEROFF: Power.STOPPED, VM_STATE.SUSPENDED: Power.SUSPENDED}


@dataclass(frozen=True, slots=True)
class _Picture:
    """oned's VMs on our hosts, by id."""

    vms: dict[VmId, VmDocument]
    node_ids: dict[NodeName, int]


class Resync:
    """The comparison."""

    def __init__(
        self,
        *,
        settings: Settings,
        registry: Registry,
        journal: Journal,
        nodes: Nodes,
        oned: Oned,
        reporter: Reporter,
        delivery: Delivery,
        due: Callable[..., None],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._journal = journal
        self._nodes = nodes
        self._oned = oned
        self._reporter = reporter
        self._due = due
        self._cache = ImageCache(settings.registry)
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._hinted: set[VmId] = set()
        self._lost = LostRequests(journal=journal, oned=oned, delivery=delivery, due=due)
        self._plugged = PluggedNics(settings=settings, registry=registry, oned=oned, delivery=delivery, due=due)
        self._orphans_since: dict[tuple[NodeName, VmId], float] = {}
        self._orphans_seen: set[tuple[NodeName, VmId]] = set()
        self._pruned = 0.0
        self.last_success = 0.0
        """Unix time of the last complete comparison with oned; 0: none yet."""
        self.error = ""
        """Why the last one failed; empty after a good one."""

    def request(self) -> None:
        """Compare soon: something may have been missed."""
        self._wanted.set()

    def hint(self, vm: VmId) -> None:
        """Look at this VM in oned soon: its state changed there."""
        self._hinted.add(vm)
        self._changed.set()

    async def run(self) -> None:
        """Compare now, when asked, and every ``resync_s``, for ever."""
        while True:
            self._wanted.clear()
            delay = self._settings.controller.resync_s * max(1.0, len(self._registry) / MANY)
            try:
                await self._compare()
                self.last_success, self.error = time.time(), ""
            except OnedockError as error:
                self.error = str(error)
                log.warning("comparison with OpenNebula failed, will be tried again", error=str(error))
                delay = min(delay, RETRY_S)
            except Exception as error:
                self.error = f"{type(error).__name__}: {error}"
                log.exception("comparison with OpenNebula crashed, will be tried again")
                delay = min(delay, RETRY_S)
            if self._lost.suspects:
                delay = min(delay, LOST_AFTER_S)
            try:
                async with asyncio.timeout(delay):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def run_hints(self) -> None:
        """Look at hinted VMs, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            hinted, self._hinted = self._hinted, set()
            for vm in hinted:
                record = self._registry.find(vm)
                if record is not None and record.desired is not None and not record.intents:
                    await self._look_at(record, record.desired)

    async def _look_at(self, record: VmRecord, desired: Desired) -> None:
        try:
            document = await self._oned.vm(record.vm)
            record.one_state = (document.state, document.lcm_state)
            if document.state == VM_STATE.DONE and desired.power is not Power.ABSENT:
                await self._remove(record.vm, desired)
            else:
                await self._plugged.look(record, document)
        except OnedockError as error:
            log.debug("a hinted VM cannot be looked at", vm=record.vm, error=str(error))

    async def _compare(self) -> None:
        picture = await self._picture()
        for name, host_id in picture.node_ids.items():
            try:
                node = await self._nodes.get(name)
            except OnedockError as error:
                log.warning("a host of OpenNebula is no node", node=name, error=str(error))
                continue
            node.host_id = host_id
        self._orphans_seen.clear()
        await self._compare_vms(picture)
        for node in self._nodes:
            try:
                await self._compare_node(node, picture)
            except OnedockError as error:
                node.listed_at = 0.0
                log.warning("a node cannot be listed", node=node.name, error=str(error))
        self._orphans_since = {k: since for k, since in self._orphans_since.items() if k in self._orphans_seen}
        if time.time() - self._pruned > PRUNE_S:
            self._pruned = time.time()
            now, keep = time.time(), self._settings.controller.log_keep_per_vm
            await self._journal.prune(
                log_per_vm=keep, log_since=now - KEEP_LOG_S, intents_since=now - KEEP_CLOSED_INTENTS_S
            )

    async def _picture(self) -> _Picture:
        hosts = [host for host in await self._oned.hosts() if host.vm_mad == self._settings.opennebula.driver]
        node_ids = {NodeName(host.name): host.id for host in hosts}
        vms = await self._oned.vms()
        return _Picture({vm.id: vm for vm in vms if vm.history.vm_mad == self._settings.opennebula.driver}, node_ids)

    async def _compare_vms(self, picture: _Picture) -> None:
        for vm in picture.vms.values():
            record = self._registry.record(vm.id)
            record.one_state = (vm.state, vm.lcm_state)
            record.name = vm.name
            await self._lost.look(record, vm)
            await self._plugged.look(record, vm)
        self._lost.forget_others(picture.vms)
        self._plugged.forget_others(picture.vms)
        for record in self._registry:
            if record.vm in picture.vms or record.intents:
                continue
            if record.desired is None:
                await self._registry.forget(record.vm)
            else:
                await self._gone_from_pool(record.vm, record.desired)

    async def _gone_from_pool(self, vm: VmId, desired: Desired) -> None:
        if desired.power is Power.ABSENT:
            self._due(vm)
        elif await self._gone_from_oned(vm) and self._past_grace(desired.node, vm):
            await self._remove(vm, desired)

    async def _remove(self, vm: VmId, desired: Desired) -> None:
        """Oned says that the VM is over."""
        log.warning("VM is gone from OpenNebula: its container is removed", vm=vm, node=desired.node)
        await self._registry.want(verbs.to_remove(desired, vm=vm, node=desired.node))
        self._due(vm)

    async def _gone_from_oned(self, vm: VmId) -> bool:
        """The pool has no such VM. It may be newer than the pool, or another driver's by now: ask for it alone."""
        try:
            document = await self._oned.vm(vm)
        except NotFoundError:
            return True
        except OnedockError as error:
            log.warning("cannot ask oned whether a VM is gone", vm=vm, error=str(error))
            return False
        return bool(document.state == VM_STATE.DONE)

    async def _compare_node(self, node: Node, picture: _Picture) -> None:
        """Compare a full list of one engine and its agent with what is wanted there."""
        containers = await node.engine.list_ours()
        namespaces = frozenset(await node.agent.list_vms())
        found = {container.vm: container for container in containers if container.vm is not None}
        records = self._registry.on_node(node.name)
        for record in records:
            desired, plugged = record.desired, record.vm in namespaces
            quiet = not record.intents and not record.error
            if desired is None or not quiet or not looks_as_wanted(desired, found.get(record.vm), plugged=plugged):
                self._due(record.vm)
            elif time.time() - record.observed_at > REFRESH_S:
                # Lists show neither NICs nor limits. A look at every VM is spread over time: it costs two calls.
                self._due(record.vm, after=random.uniform(0, len(self._registry) / REFRESHES_PER_S))  # noqa: S311
        images = [
            r.desired.spec.container.image for r in records if r.desired is not None and r.desired.spec is not None
        ]
        if not any(intent.channel is Channel.TM for record in self._registry for intent in record.intents):
            # With a transfer under way, an image may be on its way to a VM that is not known yet.
            await self._cache.sweep(node, (*images, *(c.image for c in containers)), time.monotonic())
        unclear = [
            vm
            for vm in sorted({*found, *namespaces})
            if not await self._compare_found(node, vm, found.get(vm), picture)
        ]
        if unclear:  # a list without them would power them off
            node.listed_at = 0.0
            log.info("a node has VMs whose state is not clear yet", node=node.name, vms=unclear)
            return
        node.listed_at = time.time()
        self._reporter.send_full_list(node)

    async def _compare_found(self, node: Node, vm: VmId, container: Container | None, picture: _Picture) -> bool:
        """Something of a VM is on a node: adopt it when oned has it there, else remove it after the grace.

        Returns whether it is clear what oned is to be told of the VM.
        """
        record = self._registry.find(vm)
        if record is not None and (record.intents or (record.desired is not None and record.desired.node == node.name)):
            return True
        document = picture.vms.get(vm)
        if document is not None:
            here = document.history.node == node.name and container is not None
            return not here or await self._adopt(node, vm)
        if await self._gone_from_oned(vm) and self._past_grace(node.name, vm):
            log.warning("left-over of a VM that OpenNebula does not have is removed", vm=vm, node=node.name)
            await self._registry.want(Desired(vm=vm, node=node.name, power=Power.ABSENT))
            self._due(vm)
        return True

    async def _adopt(self, node: Node, vm: VmId) -> bool:
        """Oned has this VM here and the journal does not: take over its state from oned's document.

        A VM in transition is not adopted: the request that is under way says what it becomes. Returns whether it is
        clear what oned is to be told of it.
        """
        try:
            document = await self._oned.vm(vm)
            power = _power_of(document)
            if power is None:
                return bool(document.state != VM_STATE.ACTIVE)
            spec = await describe(self._oned, self._settings, document, node.name)
        except (TerminalError, NotFoundError) as error:
            log.error("VM was not in the journal and cannot be adopted", vm=vm, node=node.name, error=str(error))
            return False
        log.warning("VM was not in the journal and is adopted", vm=vm, node=node.name, power=power)
        await self._registry.want(Desired(vm=vm, node=node.name, power=power, spec=spec))
        self._due(vm)
        return True

    def _past_grace(self, node: NodeName, vm: VmId) -> bool:
        now = asyncio.get_running_loop().time()
        self._orphans_seen.add((node, vm))
        since = self._orphans_since.setdefault((node, vm), now)
        return now - since >= self._settings.controller.orphan_grace_s


def _power_of(document: VmDocument) -> Power | None:
    """The power that oned's state means; None: it is in transition, or not on a node."""
    if document.state == VM_STATE.ACTIVE:
        return Power.RUNNING if document.lcm_state in _ALIVE else None
    return _AT_REST.get(document.state)
