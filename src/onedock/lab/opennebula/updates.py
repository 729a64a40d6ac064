"""Changes of security groups and virtual networks on their way to the VMs that use them.

They go to one VM after the other: the next one's turn is when the driver has answered for the one before, so an answer
that oned cannot read stops all that follow (protocol reference 2.3 and trap 6).
"""

import re
from typing import Protocol

from onedock.lab.opennebula import networks
from onedock.lab.opennebula.hot_actions import on_hot_action
from onedock.lab.opennebula.lcm import Request, Step
from onedock.lab.opennebula.logs import Logs
from onedock.lab.opennebula.mad import Message
from onedock.lab.opennebula.objects import Progress, SecurityGroup, VirtualNetwork, Vm
from onedock.lab.opennebula.states import LcmState as Lcm
from onedock.lab.opennebula.states import VmState
from onedock.lab.opennebula.store import Store

_CHANGING = frozenset(
    {
        Lcm.BOOT,
        Lcm.BOOT_MIGRATE,
        Lcm.BOOT_SUSPENDED,
        Lcm.BOOT_STOPPED,
        Lcm.BOOT_UNDEPLOY,
        Lcm.BOOT_POWEROFF,
        Lcm.BOOT_UNKNOWN,
        Lcm.BOOT_FAILURE,
        Lcm.BOOT_MIGRATE_FAILURE,
        Lcm.BOOT_UNDEPLOY_FAILURE,
        Lcm.BOOT_STOPPED_FAILURE,
        Lcm.MIGRATE,
        Lcm.HOTPLUG_NIC,
        Lcm.UNKNOWN,
    }
)
"""States in which the network is just being made, or nobody knows: such a VM counts as failed."""
HOT = frozenset(
    {
        Lcm.HOTPLUG,
        Lcm.HOTPLUG_SNAPSHOT,
        Lcm.HOTPLUG_SAVEAS,
        Lcm.HOTPLUG_RESIZE,
        Lcm.DISK_SNAPSHOT,
        Lcm.DISK_SNAPSHOT_DELETE,
        Lcm.DISK_RESIZE,
    }
)
"""States in which a VM runs while something else of it is changed: rules may change too, NICs may not."""

ABOUT = {"UPDATESG": "security group", "UPDATENIC": "Virtual Network"}
"""Messages whose answers begin with the id of what they are about (protocol reference 2.3)."""
_LEADING_ID = re.compile(r"\s*-?\d+", re.ASCII)


class Core(Protocol):
    """What is needed of ``oned.Oned``."""

    store: Store
    logs: Logs

    def send(self, vm: Vm, request: Request, *, about: str = "") -> None:
        """Send a request about a group or network."""

    def apply(self, vm: Vm, step: Step, *, action: str = "", about: str = "") -> None:
        """Make a step of a VM."""

    def settle(self, vm: Vm, message: str, ok: bool, info: str) -> None:
        """Apply an answer to what the VM is doing."""

    def note_failure(self, vm: Vm, message: str, info: str) -> None:
        """Tell the user of a failure."""


def takes_rules(vm: Vm) -> bool | None:
    """Whether new rules go to the VM's driver; None: the VM cannot have them now."""
    if vm.state is VmState.ACTIVE and vm.lcm_state in _CHANGING:
        return None
    return vm.state is VmState.ACTIVE and (vm.lcm_state is Lcm.RUNNING or vm.lcm_state in HOT)


def follow(store: Store, vm: Vm) -> None:
    """Put the VM on the lists of the groups and networks that it uses, and off those of all others."""
    gone = vm.state is VmState.DONE
    groups = set() if gone else set(networks.used_groups(vm))
    nets = set() if gone else networks.used_networks(vm)
    for group in store.security_groups.newest_first():
        if _follow(group.progress, vm, used=group.id in groups):
            store.save(group)
    for network in store.networks.newest_first():
        if _follow(network.progress, vm, used=network.id in nets):
            store.save(network)


def _follow(progress: Progress, vm: Vm, *, used: bool) -> bool:
    if used == progress.knows(vm.id):
        return False
    if used:
        progress.put(vm.id, "updated")
    else:
        progress.remove(vm.id)
    return True


class Updates:
    """Sends changes, and takes the answers."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def group(self, group: SecurityGroup) -> None:
        """Bring the group's rules to its outdated VMs, up to the first whose driver has to answer."""
        while (vm := self._next(group.progress)) is not None:
            sent = takes_rules(vm)
            if sent is not None:
                networks.set_rules(vm, self._store.security_groups.objects)
                self._store.save(vm)
            group.progress.put(vm.id, "error" if sent is None else "updating" if sent else "updated")
            self._store.save(group)
            if sent:
                self._core.send(vm, Request("vmm", "UPDATESG"), about=str(group.id))
                return
        self._store.save(group)

    def network(self, network: VirtualNetwork) -> None:
        """Bring changed attributes of the network to its outdated VMs, up to the first whose driver has to answer."""
        while (vm := self._next(network.progress)) is not None:
            if vm.state is VmState.ACTIVE and (vm.lcm_state in _CHANGING or vm.lcm_state in HOT):
                network.progress.put(vm.id, "error")
                continue
            changed = networks.take_over(vm, network)
            live = changed and vm.lcm_state is Lcm.RUNNING
            network.progress.put(vm.id, "updating" if live else "updated")
            if live:
                self._store.save(network)
                step = on_hot_action("nic-update", vm.state, vm.lcm_state)
                self._core.apply(vm, step, action="nic-update", about=str(network.id))
                return
            vm.template.pop("VNET_UPDATE", None)
            self._store.save(vm)
        network.changes = {}
        self._store.save(network)

    def answered(self, vm: Vm, message: Message) -> None:
        """The driver answered UPDATESG or UPDATENIC; without an id the answer is lost, and all wait for ever."""
        found = _LEADING_ID.match(message.payload)
        if found is None:
            text = f"Missing or wrong {ABOUT[message.type]} id in driver message"
            self._core.logs.oned("VMM", "E", text)
            return
        number, ok = int(found[0]), message.ok
        group = self._store.security_groups.get(number) if message.type == "UPDATESG" else None
        network = self._store.networks.get(number) if message.type == "UPDATENIC" else None
        if ok:
            self._core.logs.vm(vm.id, "VMM", "I", f"VM {'nic' if group is None else 'security group'} updated.")
        if message.type == "UPDATENIC" and vm.lcm_state is Lcm.HOTPLUG_NIC:
            self._core.settle(vm, message.type, ok, message.payload)
        elif not ok:
            self._core.note_failure(vm, message.type, message.payload)
            self._store.save(vm)
        if group is not None:
            _answered(group.progress, vm, ok)
            self.group(group)
        if network is not None:
            _answered(network.progress, vm, ok)
            self.network(network)

    def _next(self, progress: Progress) -> Vm | None:
        while progress.outdated:
            number = min(progress.outdated)
            progress.remove(number)
            if (vm := self._store.vms.get(number)) is not None:
                return vm
        return None


def _answered(progress: Progress, vm: Vm, ok: bool) -> None:
    if vm.id in progress.updating:
        progress.put(vm.id, "updated" if ok else "error")
