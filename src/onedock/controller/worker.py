"""The passes: one VM at a time, its oldest open request first, then whatever differs from what is wanted.

What a request means is in ``lifecycle``, ``hotplug`` and ``transfers``. Here alone the fate of an error is decided:
terminal ones answer the request, transient ones are retried until the request's deadline, unknown ones are logged with
their traceback and retried like transient ones.
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
from onedock.controller.documents import parse_vmm_request
from onedock.controller.hotplug import NetworkChanges
from onedock.controller.images.transfer import parse_transfer
from onedock.controller.intents import Channel, Intent, Outcome
from onedock.controller.journal import Journal
from onedock.controller.journal_rows import Contents
from onedock.controller.lifecycle import Lifecycle
from onedock.controller.metrics import Metrics
from onedock.controller.nodes import Nodes
from onedock.controller.oned import Oned
from onedock.controller.queue import KeyedQueue
from onedock.controller.registry import Registry, VmRecord
from onedock.controller.reporter import Reporter
from onedock.controller.transfers import Transfers
from onedock.reconcilers.errors import OnedockError, TerminalError
from onedock.reconcilers.model import Desired, Power, VmId

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
        self._delivery = delivery
        self._reporter = reporter
        self._transfers = transfers
        self._metrics = metrics
        self._resync = resync
        self._networks = NetworkChanges(settings=settings, registry=registry, oned=oned, reporter=reporter)
        self._lifecycle = Lifecycle(
            settings=settings,
            registry=registry,
            nodes=nodes,
            oned=oned,
            reporter=reporter,
            transfers=transfers,
            metrics=metrics,
        )
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
                await self._lifecycle.settle(record)
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

        While no controller ran, the VM may have been recovered or deleted. Between two tries and in a driver's hands,
        too: addresses of a NIC that is to be attached may be another VM's by then. A clean-up is done in any case.
        """
        if intent.channel is not Channel.VMM or intent.action == "CLEANUP":
            return ""
        late = intent.action in verbs.NETWORK_CHANGES and (bool(record.error) or self._delivery.held(intent))
        return await self._delivery.why_not(intent) if late or intent.id <= self._restored else ""

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
            return await self._lifecycle.clean_up(record, request)
        node = await self._nodes.get(request.host)
        if intent.action in verbs.NETWORK_CHANGES:
            return await self._networks.change(record, intent, request, node, fresh=intent.id > self._restored)
        return await self._lifecycle.change(record, intent.action, request, node)


def _answers(intent: Intent) -> bool:
    return intent.action not in verbs.SILENT
