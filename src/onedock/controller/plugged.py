"""NICs that oned lists and nobody asked us for, or that it does not list any more: the network follows oned.

That happens when ``onevm recover`` decides how a change of a NIC ended while we worked on it, or no controller ran.
Called by ``resync``. The pool shows ids, addresses and groups of NICs, so only a VM that differs in these is looked at.
"""

from collections.abc import Callable, Container

import structlog

from onedock.config.settings import Settings
from onedock.controller import verbs
from onedock.controller.delivery import Delivery
from onedock.controller.documents import VmDocument
from onedock.controller.networks import build_network
from onedock.controller.oned import LCM_STATE, VM_STATE, Oned
from onedock.controller.registry import Registry, VmRecord
from onedock.reconcilers.errors import NotFoundError, TerminalError
from onedock.reconcilers.model import Desired, Network, VmId

log = structlog.get_logger(__name__)

_Shown = frozenset[tuple[str, ...]]
_COMPARED = ("NIC_ID", "MAC", "IP", "IP6", "SECURITY_GROUPS")


class PluggedNics:
    """Finds and follows them."""

    def __init__(
        self, *, settings: Settings, registry: Registry, oned: Oned, delivery: Delivery, due: Callable[..., None]
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._oned = oned
        self._delivery = delivery
        self._due = due
        self._known: dict[VmId, tuple[_Shown, Network]] = {}
        """What oned listed when it was last found to be what is wanted, and what that was."""

    def forget_others(self, present: Container[VmId]) -> None:
        """Drop VMs that oned does not list any more."""
        self._known = {vm: shown for vm, shown in self._known.items() if vm in present}

    async def look(self, record: VmRecord, vm: VmDocument) -> None:
        """Look at one VM as the pool shows it, and take over another network.

        Raises:
            TransientError: oned or the journal did not answer.
        """
        desired = record.desired
        if desired is None or desired.spec is None or not self._at_rest(record, vm):
            return
        shown = frozenset(tuple(nic.get(name, "") for name in _COMPARED) for nic in vm.nics)
        network = desired.spec.network
        if vm.id not in self._known and _ids(vm) == {nic.index for nic in network.nics}:
            self._known[vm.id] = shown, network
        if self._known.get(vm.id) == (shown, network):
            return
        try:
            document = await self._oned.vm(vm.id)
            if record.desired is desired and self._at_rest(record, document):
                self._known[vm.id] = shown, await self._follow(desired, document)
        except NotFoundError:
            return
        except TerminalError as error:
            log.warning("oned's NICs of a VM cannot be plugged", vm=vm.id, error=str(error))
            self._known[vm.id] = shown, network

    def _at_rest(self, record: VmRecord, vm: VmDocument) -> bool:
        running = vm.state == VM_STATE.ACTIVE and vm.lcm_state == LCM_STATE.RUNNING
        return running and not record.intents and not self._delivery.waiting(record.vm)

    async def _follow(self, desired: Desired, document: VmDocument) -> Network:
        assert desired.spec is not None
        network, _ = build_network(
            document,
            hostname=desired.spec.container.hostname,
            settings=self._settings.containers,
            networks_settings=self._settings.networks,
        )
        if network != desired.spec.network:
            nics = [nic.name for nic in network.nics]
            log.warning(
                "oned has other NICs of a VM than were asked for: the network follows", vm=desired.vm, nics=nics
            )
            await self._registry.want(verbs.to_replug(desired, network, ()))
            self._due(desired.vm)
        return network


def _ids(vm: VmDocument) -> set[int]:
    return {int(number) for nic in vm.nics if (number := nic.get("NIC_ID", "")).isdecimal()}
