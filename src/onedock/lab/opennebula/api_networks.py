"""Calls that change the networks of VMs while they live: NICs, aliases, ``one.secgroup.*`` and ``one.vn.update``."""

from onedock.lab.opennebula import documents, hot_actions, hotplug, lcm, networks, nics, updates
from onedock.lab.opennebula.api_vms import VmApi, existing, parsed, wrong_state
from onedock.lab.opennebula.instantiate import InstantiateError
from onedock.lab.opennebula.leases import NoLeaseError
from onedock.lab.opennebula.objects import SecurityGroup, VirtualNetwork, Vm
from onedock.lab.opennebula.oned import Oned
from onedock.lab.opennebula.security_rules import RuleError, checked
from onedock.lab.opennebula.states import VmState
from onedock.lab.opennebula.store import Store
from onedock.lab.opennebula.templates import Template, Vector, get, vectors
from onedock.lab.opennebula.xmlrpc import ACTION, ALLOCATE, INTERNAL, ApiError, Method

_OWN = ("BRIDGE", "BRIDGE_TYPE", "OUTER_VLAN_ID", "PHYDEV", "VLAN_ID")
"""Attributes of a network that a new template need not repeat."""


class NetworkApi:
    """Calls about networks that VMs are plugged into.

    Args:
        oned: Does the work.
        vms: Finds VMs.
    """

    def __init__(self, oned: Oned, vms: VmApi) -> None:
        self._oned = oned
        self._store: Store = oned.store
        self._vms = vms

    def methods(self) -> dict[str, Method]:
        """Method name → function."""
        return {
            "one.vm.attachnic": self.attach,
            "one.vm.detachnic": self.detach,
            "one.vm.updatenic": self.update,
            "one.vm.attachsg": self.attach_group,
            "one.vm.detachsg": self.detach_group,
            "one.secgroup.allocate": self.group_allocate,
            "one.secgroup.clone": self.group_clone,
            "one.secgroup.info": self.group_info,
            "one.secgroup.update": self.group_update,
            "one.secgroup.commit": self.group_commit,
            "one.secgroup.delete": self.group_delete,
            "one.secgrouppool.info": self.group_pool,
            "one.vn.update": self.network_update,
        }

    def _nic(self, vm: Vm, nic_id: int) -> Vector:
        try:
            return hotplug.find(vm, nics.KINDS, "NIC_ID", nic_id)
        except hotplug.HotplugError as error:
            raise ApiError(ACTION, str(error), vm.id) from error

    def _step(self, vm: Vm, action: str) -> lcm.Step | None:
        """What the action does; None: only the template changes, because the VM is powered off (COLD_NIC_ATTACH=NO)."""
        if vm.state is VmState.POWEROFF:
            return None
        try:
            return hot_actions.on_hot_action(action, vm.state, vm.lcm_state)
        except lcm.WrongStateError:
            raise wrong_state(action, vm) from None

    def attach(self, number: int, template: str) -> int:
        """``one.vm.attachnic``: a NIC, or an alias of one."""
        vm = self._vms.vm(number)
        attributes = parsed(template)
        kind = next((kind for kind in nics.KINDS if vectors(attributes, kind)), None)
        if kind is None:
            raise ApiError(ACTION, "Wrong format or missing NIC/NIC_ALIAS/PCI attribute", number)
        action = "nic-attach" if kind == "NIC" else "alias-attach"
        step = self._step(vm, action)
        try:
            nics.attach(self._store, vm, kind, vectors(attributes, kind)[0])
        except (InstantiateError, NoLeaseError) as error:
            raise ApiError(ACTION, str(error), number) from error
        self._apply(vm, step, action, "ATTACHNIC")
        return number

    def detach(self, number: int, nic_id: int) -> int:
        """``one.vm.detachnic``: a NIC with its aliases, or an alias."""
        vm = self._vms.vm(number)
        nic = self._nic(vm, nic_id)
        action = "alias-detach" if nics.is_alias(vm, nic_id) else "nic-detach"
        step = self._step(vm, action)
        nics.detach(self._store, vm, nic)
        self._apply(vm, step, action, "DETACHNIC")
        return number

    def _apply(self, vm: Vm, step: lcm.Step | None, action: str, message: str) -> None:
        if step is not None:
            self._oned.apply(vm, step, action=action)
            return
        hotplug.settle(self._store, vm, message, vm.lcm_state, ok=True, info="-")
        self._store.save(vm)

    def update(self, number: int, nic_id: int, template: str, append: int = 0) -> int:
        """``one.vm.updatenic``: limits of bandwidth only; what changes nothing tells the driver nothing."""
        vm = self._vms.vm(number)
        nic = self._nic(vm, nic_id)
        asked = vectors(parsed(template), "NIC")
        if not asked:
            raise ApiError(ACTION, "Wrong NIC definition, attribute is missing", number)
        step = self._step(vm, "nic-update") if vm.state is VmState.ACTIVE else None
        changed = nics.update(vm, nic, asked[0], append=bool(append))
        if step is not None and changed:
            self._oned.apply(vm, step, action="nic-update", about=nic["NETWORK_ID"])
            return number
        vm.template.pop("VNET_UPDATE", None)
        self._store.save(vm)
        return number

    def attach_group(self, number: int, nic_id: int, group_id: int) -> int:
        """``one.vm.attachsg``."""
        self._group(group_id)
        return self._change_groups(number, nic_id, group_id, add=True)

    def detach_group(self, number: int, nic_id: int, group_id: int) -> int:
        """``one.vm.detachsg``."""
        return self._change_groups(number, nic_id, group_id, add=False)

    def _change_groups(self, number: int, nic_id: int, group_id: int, *, add: bool) -> int:
        vm = self._vms.vm(number)
        live = updates.takes_rules(vm)
        if live is None:
            raise ApiError(ACTION, f"VM {number} is in wrong state {vm.lcm_state.name}", number)
        nic = self._nic(vm, nic_id)
        groups = {int(text) for text in nic.get("SECURITY_GROUPS", "").split(",") if text}
        if add == (group_id in groups):
            problem = f"SG {group_id} already in NIC {nic_id}" if add else f"NIC {nic_id} doesn't contain SG {group_id}"
            raise ApiError(ACTION, f"VM {number} {problem}", number)
        groups = groups | {group_id} if add else groups - {group_id}
        nic["SECURITY_GROUPS"] = ",".join(str(group) for group in sorted(groups))
        networks.set_rules(vm, self._store.security_groups.objects)
        self._store.save(vm)
        updates.follow(self._store, vm)
        if live:
            group = self._store.security_groups.get(group_id)
            if group is not None and group.progress.knows(number):
                group.progress.put(number, "updating")
                self._store.save(group)
            self._oned.send(vm, lcm.Request("vmm", "UPDATESG"), about=str(group_id))
        return number

    def _group(self, number: int) -> SecurityGroup:
        return existing(self._store.security_groups.get(number), "security group", number)

    def group_allocate(self, template: str) -> int:
        """``one.secgroup.allocate``."""
        attributes = parsed(template)
        name = get(attributes, "NAME")
        if not name:
            raise ApiError(INTERNAL, "No NAME in template for Security Group.")
        attributes.pop("NAME")
        return self._new_group(name, attributes)

    def _new_group(self, name: str, attributes: Template) -> int:
        if any(group.name == name for group in self._store.security_groups.objects.values()):
            raise ApiError(ALLOCATE, f"NAME is already taken by SECURITY GROUP {name}.")
        rules = self._checked(attributes)
        number = self._store.new_id(self._store.security_groups)
        self._store.save(SecurityGroup(number, name, rules))
        return number

    def _checked(self, attributes: Template) -> Template:
        try:
            return checked(attributes)
        except RuleError as error:
            raise ApiError(INTERNAL, str(error)) from error

    def group_clone(self, number: int, name: str) -> int:
        """``one.secgroup.clone``."""
        return self._new_group(name, dict(self._group(number).template))

    def group_info(self, number: int, _decrypt: bool = False) -> str:
        """``one.secgroup.info``."""
        return documents.security_group(self._group(number))

    def group_pool(self, _filter: int, _start: int = -1, _end: int = -1) -> str:
        """``one.secgrouppool.info``."""
        groups = self._store.security_groups.newest_first()
        return f"<SECURITY_GROUP_POOL>{''.join(map(documents.security_group, groups))}</SECURITY_GROUP_POOL>"

    def group_update(self, number: int, template: str, append: int = 0) -> int:
        """``one.secgroup.update``: the new rules go to all VMs at once."""
        group = self._group(number)
        attributes = parsed(template)
        group.template = self._checked(group.template | attributes if append else attributes)
        return self.group_commit(number)

    def group_commit(self, number: int, recover: bool = False) -> int:
        """``one.secgroup.commit``: again to all VMs, or to those that have them not."""
        group = self._group(number)
        group.progress.commit(recover=recover)
        self._oned.updates.group(group)
        return number

    def group_delete(self, number: int) -> int:
        """``one.secgroup.delete``."""
        group = self._group(number)
        if number == 0:
            raise ApiError(ACTION, "The default security group (ID 0) cannot be deleted.", number)
        if any(group.progress.lists().values()):
            raise ApiError(ACTION, "The security group has VMs using it", number)
        self._store.delete(group)
        return number

    def network_update(self, number: int, template: str, append: int = 0) -> int:
        """``one.vn.update``: what running VMs can follow goes to them."""
        network: VirtualNetwork = existing(self._store.networks.get(number), "virtual network", number)
        given = parsed(template)
        kept = network.template if append else {key: network.template[key] for key in _OWN if key in network.template}
        attributes = kept | given
        if not get(attributes, "VN_MAD"):
            raise ApiError(ACTION, "No VN_MAD in template for Virtual Network.", number)
        changes = networks.changes_of(network, attributes)
        network.template = attributes
        if not network.vlan_automatic:
            network.vlan_id = get(attributes, "VLAN_ID")
        if changes:
            network.changes = changes | network.changes
            network.progress.commit(recover=False)
        self._oned.updates.network(network)
        return number
