"""ATTACHNIC, DETACHNIC, UPDATENIC, UPDATESG, UPDATECONF: another network for a VM, whose container is left alone.

The new desired state becomes durable only together with the answer. Until then the journal has the one that oned falls
back to, so that a failure, or a controller that ends half-way, has nothing to undo but what is on the node.
"""

from dataclasses import replace

import structlog

from onedock.config.settings import Settings
from onedock.controller import verbs
from onedock.controller.describe import describe
from onedock.controller.documents import VmmRequest, parse_vmm_request
from onedock.controller.intents import Intent
from onedock.controller.networks import build_network, network_notes
from onedock.controller.nodes import Node
from onedock.controller.oned import Oned
from onedock.controller.registry import Registry, VmRecord
from onedock.controller.reporter import Reporter
from onedock.reconcilers.drift import find_drift
from onedock.reconcilers.errors import OnedockError
from onedock.reconcilers.model import Desired

log = structlog.get_logger(__name__)


class NetworkChanges:
    """Changes networks of VMs that live."""

    def __init__(self, *, settings: Settings, registry: Registry, oned: Oned, reporter: Reporter) -> None:
        self._settings = settings
        self._registry = registry
        self._oned = oned
        self._reporter = reporter

    async def change(
        self, record: VmRecord, intent: Intent, request: VmmRequest, node: Node, *, fresh: bool
    ) -> tuple[str, Desired]:
        """Make the VM's network as its document says; returns the answer's text and what is wanted from now on.

        A VM that does not run is not started, and its network not made: it gets both with its next start.

        Args:
            record: the VM.
            intent: the request.
            request: its document.
            node: where the VM is.
            fresh: whether the document is as new as the VM; else oned is asked for another.

        Raises:
            TerminalError: a NIC cannot be plugged as asked.
            TransientError: engine, agent or oned did not answer.
        """
        vm = request.vm if fresh else await self._oned.vm(record.vm)
        old = record.desired
        if old is None or old.spec is None:  # the journal was lost
            old = verbs.to_run(None, await describe(self._oned, self._settings, vm, request.host))
        assert old.spec is not None
        container = old.spec.container
        network, hosts = build_network(
            vm,
            hostname=container.hostname,
            settings=self._settings.containers,
            networks_settings=self._settings.networks,
            leave_out_marked=intent.action == "DETACHNIC",
        )
        notes = () if intent.action == "DETACHNIC" else tuple(n for n in network_notes(vm) if n not in old.spec.notes)
        desired = verbs.to_replug(old, network, notes)
        await self._converge(node, desired)
        for note in notes:
            self._reporter.vm_log(record.vm, "W", note)
        if intent.action == "UPDATECONF":
            text = "the network follows the new context, the container's variables do not; see docs/networking.md"
            self._reporter.vm_log(record.vm, "I", text)
        elif intent.action in {"ATTACHNIC", "DETACHNIC"} and hosts != container.hosts:
            text = "/etc/hosts stays as it is while the container exists; see docs/networking.md"
            self._reporter.vm_log(record.vm, "I", text)
        await self._registry.set_condition(record.vm, "Network", ok=True, reason="Changed")
        return f"{_first_word(request, intent.action)}-", desired

    async def give_up(self, record: VmRecord, intent: Intent, node: Node | None, error: str) -> str:
        """Oned will go on with the network that it had; returns the answer's text.

        The node goes back to it before the answer, after which oned may give the addresses to others. What cannot be
        done now is left to the next pass.
        """
        if node is not None and record.desired is not None and record.desired.spec is not None:
            try:
                await self._converge(node, record.desired)
            except OnedockError as problem:
                log.warning("the network cannot be put back yet", error=str(problem))
        reason = f"{intent.action.capitalize()}Failed"
        await self._registry.set_condition(record.vm, "Network", ok=False, reason=reason, message=error)
        return _first_word(parse_vmm_request(intent.payload, record.vm), intent.action) + error

    async def _converge(self, node: Node, desired: Desired) -> None:
        """Make it so, without starting what died or thawing what was frozen meanwhile: the next pass tells oned."""
        observed = await node.runner.observe(desired)
        self._registry.saw(desired.vm, observed)
        drift = find_drift(desired, observed)
        await node.runner.converge(desired if drift is None else replace(desired, power=drift.power), observed)


def _first_word(request: VmmRequest, action: str) -> str:
    return verbs.first_word(action, security_group=request.security_group, virtual_network=request.virtual_network)
