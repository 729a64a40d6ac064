"""The passes: one VM at a time, its oldest open request first, then whatever differs from what is wanted.

The only place that decides the fate of an error: terminal ones answer the request, transient ones are retried until
the request's deadline, unknown ones are logged with their traceback and retried like transient ones.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

import structlog
from structlog.contextvars import bound_contextvars

from onedock.config.settings import Settings
from onedock.controller import verbs
from onedock.controller.delivery import Delivery
from onedock.controller.describe import describe
from onedock.controller.documents import VmDocument, VmmRequest, parse_vmm_request
from onedock.controller.hotplug import NetworkChanges
from onedock.controller.images.transfer import parse_transfer
from onedock.controller.intents import Channel, Intent, Outcome
from onedock.controller.journal import Journal
from onedock.controller.journal_rows import Contents
from onedock.controller.metrics import Metrics
from onedock.controller.nodes import Node, Nodes
from onedock.controller.oned import Oned
from onedock.controller.queue import KeyedQueue
from onedock.controller.registry import Registry, VmRecord
from onedock.controller.reporter import Reporter
from onedock.controller.transfers import Transfers
from onedock.reconcilers.drift import Drift, find_drift
from onedock.reconcilers.errors import OnedockError, TerminalError
from onedock.reconcilers.model import Desired, NodeName, Phase, Power, VmId, VmSpec, container_name

log = structlog.get_logger(__name__)


class Worker:
    """Works on due VMs; ``settings.controller.workers`` of its loops run at the same time."""

    def __init__(
        self,
        *,
        settings: Settings,
        queue: KeyedQueue[VmId],
        registry: Registry,
        journal: Journal,
        nodes: Nodes,
        oned: Oned,
        delivery: Delivery,
        reporter: Reporter,
        transfers: Transfers,
        metrics: Metrics,
        resync: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._registry = registry
        self._journal = journal
        self._nodes = nodes
        self._oned = oned
        self._delivery = delivery
        self._reporter = reporter
        self._transfers = transfers
        self._metrics = metrics
        self._resync = resync
        self._networks = NetworkChanges(settings=settings, registry=registry, oned=oned, reporter=reporter)
        self._restored = 0
        self._dropped: dict[int, str] = {}
        self._script_done: Callable[[Intent, Outcome], None] = lambda intent, outcome: None
        self._passes: dict[VmId, asyncio.Task[None]] = {}

    def on_script_done(self, callback: Callable[[Intent, Outcome], None]) -> None:
        """Set who is told of the outcome of a TM request."""
        self._script_done = callback

    def restore(self, contents: Contents) -> None:
        """Learn which requests an earlier controller left open: oned may not wait for them any more."""
        self._restored = max((intent.id for intent in contents.intents), default=0)

    async def run(self) -> None:
        """Take due VMs, for ever."""
        while True:
            vm = await self._queue.get()
            task = asyncio.get_running_loop().create_task(self._pass(vm), name=f"pass-{vm}")
            self._passes[vm] = task
            failed = False
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                if not task.cancelled():  # the worker itself is to end, not this pass
                    task.cancel()
                    raise
                log.info("pass stopped", vm=vm)
            except Exception:
                failed = True
            finally:
                del self._passes[vm]
                retry_in_s = self._queue.done(vm, failed=failed)
                if record := self._registry.find(vm):  # else it is gone for good
                    record.retry_in_s = retry_in_s

    async def cancel(self, vm: VmId) -> None:
        """Stop the pass of a VM, if one is running, and wait until it has stopped."""
        if task := self._passes.get(vm):
            task.cancel()
            await asyncio.wait([task])

    async def drop(self, vm: VmId, intent_id: int, reason: str) -> None:
        """Let an open request fail with ``reason``, by an admin's hand: its next pass does that instead of its work."""
        self._dropped[intent_id] = reason
        await self.cancel(vm)
        self._queue.add(vm)

    async def _pass(self, vm: VmId) -> None:
        record = self._registry.find(vm)
        if record is None:
            return  # forgotten since it became due
        node = record.desired.node if record.desired else ""
        with bound_contextvars(vm=vm, node=node, reconcile_id=uuid.uuid4().hex[:8]):
            try:
                while record.intents:
                    intent = record.intents[0]
                    with bound_contextvars(intent_id=intent.id, action=intent.action, node=intent.node or node):
                        await self._work(record, intent)
                await self._settle(record)
            except asyncio.CancelledError:
                raise
            except OnedockError as error:
                self._metrics.passes.labels("retried").inc()
                record.error = str(error)
                log.warning("pass failed, will be tried again", error=str(error))
                raise
            except Exception as error:
                self._metrics.passes.labels("crashed").inc()
                record.error = f"{type(error).__name__}: {error}"
                log.exception("pass crashed, will be tried again")
                raise
            self._metrics.passes.labels("done").inc()
            record.error = ""

    async def _work(self, record: VmRecord, intent: Intent) -> None:
        """Do one request and conclude it. Raises what is to be retried."""
        if reason := await self._outdated(record, intent):
            log.info("request is outdated and dropped", reason=reason)
            await self._journal.conclude(intent, None)
            record.intents.popleft()
            self._resync()  # what oned has instead, nobody asks for
            return
        started = time.monotonic()
        if intent.action == "DEPLOY" and not record.error:
            self._metrics.deploy_seconds.labels("wait").observe(time.time() - intent.received)
        try:
            info, desired = await self._do(record, intent)
            outcome = Outcome(intent.id, ok=True, info=info, created=time.time(), answers=_answers(intent))
        except TerminalError as error:
            outcome, desired = await self._fail(record, intent, str(error))
        except Exception as error:
            if time.time() - intent.received < self._settings.controller.deadline_s:
                raise
            problem = str(error) if isinstance(error, OnedockError) else f"{type(error).__name__}: {error}"
            outcome, desired = await self._fail(record, intent, problem)
        await self._journal.conclude(intent, outcome, desired)
        if desired is not None:
            self._registry.note_desired(desired)
        record.intents.popleft()
        self._dropped.pop(intent.id, None)
        self._metrics.requests.labels(intent.action, "ok" if outcome.ok else "failed").inc()
        self._metrics.request_seconds.labels(intent.action).observe(time.time() - intent.received)
        if intent.channel is Channel.TM and intent.action in {"clone", "ln"}:
            self._metrics.deploy_seconds.labels("transfer").observe(time.time() - intent.received)
        log.info(
            "request done",
            ok=outcome.ok,
            info=outcome.info[:200],
            seconds=round(time.monotonic() - started, 4),
        )
        if intent.channel is Channel.VMM:
            self._delivery.add(intent, outcome, followed=bool(record.intents))
        else:
            self._script_done(intent, outcome)

    async def _outdated(self, record: VmRecord, intent: Intent) -> str:
        """Why a request is not to be done any more; empty when it is.

        While no controller ran, the VM may have been recovered or deleted. Between two tries, too: addresses of a NIC
        that is to be attached may be another VM's by then. A clean-up is done in any case.
        """
        if intent.channel is not Channel.VMM or intent.action == "CLEANUP":
            return ""
        tried = bool(record.error) and intent.action in verbs.NETWORK_CHANGES
        return await self._delivery.why_not(intent) if tried or intent.id <= self._restored else ""

    async def _fail(self, record: VmRecord, intent: Intent, error: str) -> tuple[Outcome, Desired | None]:
        """The failure of a request, and the desired state that it leaves behind (None: as it is)."""
        log.error("request failed", error=error)
        if intent.action in verbs.NETWORK_CHANGES:
            error = await self._networks.give_up(record, intent, self._nodes.find(intent.node), error)
        outcome = Outcome(intent.id, ok=False, info=error, created=time.time(), answers=_answers(intent))
        desired = record.desired
        if intent.channel is Channel.VMM and desired is not None:
            if intent.action in {"DEPLOY", "RESTORE"}:
                await self._registry.set_condition(record.vm, "Running", ok=False, reason="StartFailed", message=error)
                return outcome, verbs.after_failed_start(desired, intent.lcm_state)
            if intent.action in {"SHUTDOWN", "CANCEL"} and desired.spec is not None:
                # oned puts the VM back to RUNNING.
                return outcome, replace(desired, power=Power.RUNNING, generation=desired.generation + 1)
            if intent.action in {"REBOOT", "RESET"}:
                return outcome, replace(desired, restart_from=None)
        return outcome, None

    async def _do(self, record: VmRecord, intent: Intent) -> tuple[str, Desired | None]:
        """Do one request; returns the answer's text and the desired state to keep."""
        if reason := self._dropped.get(intent.id):
            raise TerminalError(reason)
        if intent.channel is Channel.TM:
            transfer = parse_transfer(intent.action, json.loads(intent.payload)["argv"])
            return "", await self._transfers.do(record, transfer)
        request = parse_vmm_request(intent.payload, record.vm)
        self._reporter.note_history(record, request.vm.history)
        if intent.action == "CLEANUP":
            return await self._clean_up(record, request)
        node = await self._nodes.get(request.host)
        if intent.action == "SAVE":
            return "-", await self._keep_frozen(record, node)
        if intent.action in verbs.NETWORK_CHANGES:
            return await self._networks.change(record, intent, request, node, fresh=intent.id > self._restored)
        desired = await self._desired(record, intent, request, node)
        if desired is None:
            return "the container does not run; nothing was restarted", None
        await self._registry.want(desired)
        await self._converge(record, node, desired)
        if desired.power is Power.RUNNING:
            await self._registry.set_condition(record.vm, "Running", ok=True, reason=intent.action.capitalize())
            if "Network" in record.conditions:  # of an earlier change
                await self._registry.set_condition(record.vm, "Network", ok=True, reason="Started")
            desired = replace(desired, restart_from=None)
        else:
            await self._registry.set_condition(record.vm, "Running", ok=False, reason=intent.action.capitalize())
        return container_name(record.vm) if intent.action == "DEPLOY" else "-", desired

    async def _desired(self, record: VmRecord, intent: Intent, request: VmmRequest, node: Node) -> Desired | None:
        """The desired state that a VMM request asks for; None: there is nothing to do."""
        grace = self._settings.controller.stop_grace_s
        match verbs.NEEDS[intent.action]:
            case verbs.Need.SPEC:
                spec = await self._spec(request.vm, request.host)
                for note in spec.notes:
                    self._reporter.vm_log(record.vm, "W", note)
                return verbs.to_run(record.desired, spec)
            case verbs.Need.CONTAINER:
                if record.desired is not None and record.desired.restart_from is not None:
                    return record.desired  # an interrupted restart goes on: the run to end is known
                old = record.desired or verbs.to_run(None, await self._spec(request.vm, request.host))
                container = await node.engine.find(record.vm)
                wanted = verbs.to_restart(old, container, grace_s=grace if intent.action == "REBOOT" else None)
                return wanted if wanted.restart_from is not None else None
            case verbs.Need.NOTHING:
                return verbs.to_stop(
                    record.desired,
                    vm=record.vm,
                    node=request.host,
                    grace_s=grace if intent.action == "SHUTDOWN" else None,
                )

    async def _keep_frozen(self, record: VmRecord, node: Node) -> Desired | None:
        """SAVE: of a container that was paused by hand there is nothing to do; see ``reporter``, which asks for it."""
        container = await node.engine.find(record.vm)
        if container is None or container.phase is not Phase.PAUSED:
            raise TerminalError("not supported yet: ONEDock has no suspend in this release; the VM was not touched")
        return replace(record.desired, power=Power.SUSPENDED) if record.desired is not None else None

    async def _spec(self, vm: VmDocument, node: NodeName) -> VmSpec:
        return await describe(self._oned, self._settings, vm, node)

    async def _converge(self, record: VmRecord, node: Node, desired: Desired) -> None:
        before = await node.runner.converge(desired)
        self._registry.saw(record.vm, before)

    async def _clean_up(self, record: VmRecord, request: VmmRequest) -> tuple[str, Desired | None]:
        """CLEANUP: remove everything, here and on the host that the VM was moved from or to; then the TM's lines.

        It may come for a VM that is DONE and without a deploy id; oned ignores its result (protocol 2.5, trap 15).
        """
        desired = verbs.to_remove(record.desired, vm=record.vm, node=request.host)
        await self._registry.want(desired)
        for name in filter(None, (request.host, NodeName(request.migration_host))):
            node = await self._nodes.get(name)
            await self._converge(record, node, replace(desired, node=name))
        await self._transfers.run_commands(request.tm_command)
        return "-", desired

    async def _settle(self, record: VmRecord) -> None:
        """With no request open: take over what happened from outside, then do what is missing."""
        desired = record.desired
        if desired is None:
            return
        node = await self._nodes.get(desired.node)
        observed = await node.runner.observe(desired)
        self._registry.saw(record.vm, observed)
        drift = find_drift(desired, observed)
        if drift is not None and not _told(record, drift):
            desired = replace(desired, power=drift.power, generation=desired.generation + 1)
            await self._adopt(record, desired, drift)
        await node.runner.converge(desired, observed)
        if desired.power is Power.ABSENT:
            log.info("nothing is left of the VM")
            await self._registry.forget(record.vm)

    async def _adopt(self, record: VmRecord, desired: Desired, drift: Drift) -> None:
        await self._registry.want(desired)
        self._reporter.push(record)
        self._reporter.vm_log(record.vm, "I", drift.message)
        log.info("state changed from outside", power=desired.power, reason=drift.reason, detail=drift.message)
        self._metrics.drifts.labels(drift.reason).inc()
        await self._registry.set_condition(
            record.vm,
            "Running",
            ok=desired.power is Power.RUNNING,
            reason=drift.reason,
            message=drift.message,
        )


def _told(record: VmRecord, drift: Drift) -> bool:
    """Whether this was said before: a stopped VM whose container was removed stays one."""
    running = record.conditions.get("Running")
    same_power = record.desired is not None and record.desired.power is drift.power
    return same_power and running is not None and running.reason == drift.reason


def _answers(intent: Intent) -> bool:
    return intent.action not in verbs.SILENT
