"""The ``one.vm.*``, ``one.vmpool.*`` and ``one.template.*`` calls."""

import time
from collections.abc import Callable
from typing import TypeVar

from onedock.lab.opennebula import documents, instantiate, lcm, recovery, templates
from onedock.lab.opennebula.disks import DiskError
from onedock.lab.opennebula.instantiate import InstantiateError
from onedock.lab.opennebula.leases import NoLeaseError
from onedock.lab.opennebula.objects import Datastore, Host, Vm, VmTemplate
from onedock.lab.opennebula.oned import Oned
from onedock.lab.opennebula.states import LcmState, VmState
from onedock.lab.opennebula.templates import Template, TemplateError, get
from onedock.lab.opennebula.xmlrpc import ACTION, ALLOCATE, INTERNAL, NO_EXISTS, ApiError, Method

ANY_STATE, NOT_DONE = -2, -1
Thing = TypeVar("Thing")


def parsed(text: str) -> Template:
    """Template attributes of a parameter.

    Raises:
        ApiError: The text is no template.
    """
    try:
        return templates.parse(text)
    except TemplateError as error:
        raise ApiError(INTERNAL, f"Cannot parse template. {error}") from error


def existing(found: Thing | None, what: str, number: int) -> Thing:
    """The object, or NO_EXISTS.

    Raises:
        ApiError: There is none.
    """
    if found is None:
        raise ApiError(NO_EXISTS, f"Error getting {what} [{number}].", number)
    return found


class VmApi:
    """Calls about VMs.

    Args:
        oned: Does the work.
        arrived: Called when a VM waits for the scheduler.
    """

    def __init__(self, oned: Oned, arrived: Callable[[], None]) -> None:
        self._oned = oned
        self._store = oned.store
        self._arrived = arrived

    def methods(self) -> dict[str, Method]:
        """Method name → function."""
        return {
            "one.vm.allocate": self.allocate,
            "one.vm.info": self.info,
            "one.vm.monitoring": self.monitoring,
            "one.vm.update": self.update,
            "one.vm.action": self.action,
            "one.vm.deploy": self.deploy,
            "one.vm.migrate": self.migrate,
            "one.vm.recover": self.recover,
            "one.vmpool.info": self.pool,
            "one.vmpool.infoextended": self.pool_extended,
            "one.vmpool.infoset": self.pool_set,
            "one.vmpool.monitoring": self.pool_monitoring,
            "one.template.allocate": self.template_allocate,
            "one.template.info": self.template_info,
            "one.template.instantiate": self.instantiate,
        }

    def vm(self, number: int) -> Vm:
        """The VM with that id.

        Raises:
            ApiError: There is none.
        """
        return existing(self._store.vms.get(number), "virtual machine", number)

    def _new(self, template: Template, hold: bool) -> int:
        number = self._store.new_id(self._store.vms)
        try:
            vm = instantiate.new_vm(self._store, number, template, hold=hold, now=int(time.time()))
        except (InstantiateError, DiskError, NoLeaseError) as error:
            raise ApiError(ALLOCATE, str(error)) from error
        self._arrived()
        return vm.id

    def allocate(self, template: str, hold: bool = False) -> int:
        """``one.vm.allocate``."""
        return self._new(parsed(template), hold)

    def template_allocate(self, template: str) -> int:
        """``one.template.allocate``."""
        attributes = parsed(template)
        name = get(attributes, "NAME")
        number = self._store.new_id(self._store.templates)
        attributes.pop("NAME", None)
        self._store.save(VmTemplate(number, name or f"template-{number}", attributes, int(time.time())))
        return number

    def template_info(self, number: int, _extended: bool = False, _decrypt: bool = False) -> str:
        """``one.template.info``."""
        return documents.vm_template(existing(self._store.templates.get(number), "template", number))

    def instantiate(self, number: int, name: str, hold: bool, extra: str = "", _persistent: bool = False) -> int:
        """``one.template.instantiate``: attributes of ``extra`` replace those of the template."""
        template = existing(self._store.templates.get(number), "template", number)
        attributes = dict(template.template) | parsed(extra) | {"TEMPLATE_ID": [str(number)]}
        if name:
            attributes["NAME"] = [name]
        return self._new(attributes, hold)

    def info(self, number: int, _decrypt: bool = False) -> str:
        """``one.vm.info``."""
        return documents.vm(self.vm(number))

    def monitoring(self, number: int) -> str:
        """``one.vm.monitoring``: the last record."""
        return f"<MONITORING_DATA>{_monitoring(self.vm(number))}</MONITORING_DATA>"

    def pool_monitoring(self, _filter: int, _seconds: int = -1) -> str:
        """``one.vmpool.monitoring``: the last records of VMs that are not DONE."""
        vms = [vm for vm in self._store.vms.objects.values() if vm.state is not VmState.DONE]
        return f"<MONITORING_DATA>{''.join(_monitoring(vm) for vm in vms)}</MONITORING_DATA>"

    def _page(self, start: int, end: int, state: int) -> list[Vm]:
        vms = [
            vm
            for vm in self._store.vms.newest_first()
            if state == ANY_STATE or (vm.state is not VmState.DONE if state == NOT_DONE else vm.state == state)
        ]
        if start >= 0 and end < -1:
            return vms[start : start - end]
        if start < 0 and end < 0:
            return vms
        return [vm for vm in vms if vm.id >= start and (end < 0 or vm.id <= end)]

    def pool(self, _filter: int, start: int = -1, end: int = -1, state: int = NOT_DONE, _query: str = "") -> str:
        """``one.vmpool.info``: short documents."""
        return f"<VM_POOL>{''.join(documents.vm_short(vm) for vm in self._page(start, end, state))}</VM_POOL>"

    def pool_extended(
        self, _filter: int, start: int = -1, end: int = -1, state: int = NOT_DONE, _query: str = ""
    ) -> str:
        """``one.vmpool.infoextended``: full documents, but only the last history record and no monitoring."""
        return f"<VM_POOL>{''.join(documents.vm(vm, stored=True) for vm in self._page(start, end, state))}</VM_POOL>"

    def pool_set(self, numbers: str, extended: bool = False) -> str:
        """``one.vmpool.infoset``: the VMs of a comma list."""
        wanted = {int(number) for number in numbers.split(",") if number.strip().isdigit()}
        vms = [vm for vm in self._store.vms.newest_first() if vm.id in wanted]
        texts = [documents.vm(vm, stored=True) if extended else documents.vm_short(vm) for vm in vms]
        return f"<VM_POOL>{''.join(texts)}</VM_POOL>"

    def update(self, number: int, template: str, append: int = 0) -> int:
        """``one.vm.update``: USER_TEMPLATE, replaced (0) or merged (1)."""
        vm = self.vm(number)
        attributes = parsed(template)
        vm.user_template = vm.user_template | attributes if append else attributes
        self._store.save(vm)
        return number

    def action(self, name: str, number: int) -> int:
        """``one.vm.action``."""
        vm = self.vm(number)
        if name in ("resched", "unresched"):
            vm.resched = int(name == "resched")
            self._store.save(vm)
            return number
        if name.startswith("terminate") and recovery.is_failure(vm.lcm_state):
            self._oned.delete(vm, recreate=False)
            return number
        try:
            step = lcm.on_action(name, vm.state, vm.lcm_state)
        except lcm.WrongStateError:
            raise wrong_state(name, vm) from None
        self._oned.apply(vm, step, action=name)
        if step.state is VmState.PENDING:
            self._arrived()
        return number

    def _place(self, host_id: int, datastore_id: int, vm: Vm) -> tuple[Host, Datastore]:
        host = existing(self._store.hosts.get(host_id), "host", host_id)
        if datastore_id < 0:
            datastore_id = (
                vm.record.ds_id
                if vm.history
                else min((ds.id for ds in self._store.datastores.objects.values() if ds.type == 1), default=-1)
            )
        return host, existing(self._store.datastores.get(datastore_id), "datastore", datastore_id)

    def deploy(self, number: int, host_id: int, _enforce: bool = False, ds_id: int = -1, _extra: str = "") -> int:
        """``one.vm.deploy``."""
        vm = self.vm(number)
        host, datastore = self._place(host_id, ds_id, vm)
        try:
            self._oned.deploy(vm, host, datastore)
        except lcm.WrongStateError:
            raise wrong_state("deploy", vm) from None
        return number

    def migrate(
        self, number: int, host_id: int, live: bool = False, _enforce: bool = False, ds_id: int = -1, kind: int = 0
    ) -> int:
        """``one.vm.migrate``."""
        vm = self.vm(number)
        host, datastore = self._place(host_id, ds_id, vm)
        if vm.history and vm.record.hid == host_id:
            raise ApiError(ACTION, f"VM is already running on host [{host_id}]", number)
        try:
            self._oned.migrate(vm, host, datastore, live=live, kind=kind)
        except lcm.WrongStateError:
            raise wrong_state("migrate", vm) from None
        return number

    def recover(self, number: int, operation: int) -> int:
        """``one.vm.recover``: 0 failure, 1 success, 2 retry, 3 delete, 4 delete-recreate, 5 delete-db."""
        vm = self.vm(number)
        if vm.state is VmState.DONE:
            raise wrong_state("recover", vm)
        match operation:
            case 0 | 1:
                self._recover_answer(vm, ok=operation == 1)
            case 2:
                step = recovery.on_retry(vm.lcm_state, vm.record.action if vm.history else 0)
                if step is None:
                    raise wrong_state("recover", vm)
                self._oned.apply(vm, step, action="")
            case 3:
                self._oned.delete(vm, recreate=False)
            case 4:
                self._oned.delete(vm, recreate=True)
                self._arrived()
            case 5:
                self._oned.apply(vm, lcm.Step(VmState.DONE))
            case _:
                raise ApiError(ACTION, f"Wrong recovery operation {operation}", number)
        return number

    def _recover_answer(self, vm: Vm, *, ok: bool) -> None:
        if vm.lcm_state is LcmState.UNKNOWN:
            self._oned.apply(vm, lcm.active(LcmState.RUNNING))
            return
        message = recovery.awaited(vm.lcm_state, vm.record.action if vm.history else 0)
        if message is None:
            raise wrong_state("recover", vm)
        if ok and not vm.deploy_id and message in ("DEPLOY", "RESTORE", "MIGRATE"):
            vm.deploy_id = f"one-{vm.id}"
        self._oned.settle(vm, message, ok, "-")


def wrong_state(action: str, vm: Vm) -> ApiError:
    """The answer to an action that the VM's state does not allow."""
    state = vm.lcm_state.name if vm.state is VmState.ACTIVE else vm.state.name
    text = f'Error performing action "{action}": This action is not available for state {state}'
    return ApiError(ACTION, text, vm.id)


def _monitoring(vm: Vm) -> str:
    return templates.vector_xml("MONITORING", vm.monitoring) if vm.monitoring else ""
