"""What oned wants of VMs: started, stopped, restarted, removed; and what became of them without it.

What is raised here is retried or answered with by the passes of ``worker``.
"""

from dataclasses import replace

import structlog

from onedock.config.settings import Settings
from onedock.controller import verbs
from onedock.controller.describe import describe
from onedock.controller.documents import VmDocument, VmmRequest
from onedock.controller.metrics import Metrics
from onedock.controller.nodes import Node, Nodes
from onedock.controller.oned import Oned
from onedock.controller.registry import Registry, VmRecord
from onedock.controller.reporter import Reporter
from onedock.controller.transfers import Transfers
from onedock.reconcilers.drift import Drift, find_drift
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Desired, NodeName, Phase, Power, VmSpec, container_name

log = structlog.get_logger(__name__)


class Lifecycle:
    """Brings one VM at a time to what is wanted of it."""

    def __init__(
        self,
        *,
        settings: Settings,
        registry: Registry,
        nodes: Nodes,
        oned: Oned,
        reporter: Reporter,
        transfers: Transfers,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._nodes = nodes
        self._oned = oned
        self._reporter = reporter
        self._transfers = transfers
        self._metrics = metrics

    async def change(
        self, record: VmRecord, action: str, request: VmmRequest, node: Node
    ) -> tuple[str, Desired | None]:
        """Do one request of oned; returns the answer's text and the desired state to keep (None: as it is)."""
        if action == "SAVE":
            return "-", await self._keep_frozen(record, node)
        desired = await self._desired(record, action, request, node)
        if desired is None:
            return "the container does not run; nothing was restarted", None
        await self._registry.want(desired)
        await self._converge(record, node, desired)
        if desired.power is Power.RUNNING:
            await self._registry.set_condition(record.vm, "Running", ok=True, reason=action.capitalize())
            if "Network" in record.conditions:  # of an earlier change
                await self._registry.set_condition(record.vm, "Network", ok=True, reason="Started")
            desired = replace(desired, restart_from=None)
        else:
            await self._registry.set_condition(record.vm, "Running", ok=False, reason=action.capitalize())
        return container_name(record.vm) if action == "DEPLOY" else "-", desired

    async def clean_up(self, record: VmRecord, request: VmmRequest) -> tuple[str, Desired | None]:
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

    async def settle(self, record: VmRecord) -> None:
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

    async def _desired(self, record: VmRecord, action: str, request: VmmRequest, node: Node) -> Desired | None:
        """The desired state that a VMM request asks for; None: there is nothing to do."""
        grace = self._settings.controller.stop_grace_s
        match verbs.NEEDS[action]:
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
                wanted = verbs.to_restart(old, container, grace_s=grace if action == "REBOOT" else None)
                return wanted if wanted.restart_from is not None else None
            case verbs.Need.NOTHING:
                return verbs.to_stop(
                    record.desired,
                    vm=record.vm,
                    node=request.host,
                    grace_s=grace if action == "SHUTDOWN" else None,
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
