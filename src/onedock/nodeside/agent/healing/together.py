"""A bridge that comes back, for all of its VMs at once: what each of them would do alone takes them long in a row."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import namespaces, ovs
from onedock.nodeside.agent.healing.notices import Notice
from onedock.nodeside.agent.plan.ovs import add_port
from onedock.nodeside.agent.seen import vm_group
from onedock.nodeside.agent.steps import ConfigureSwitch, CreateBridge, PlugIn, Step
from onedock.reconcilers.errors import OnedockError
from onedock.reconcilers.model import Network, VmId
from onedock.reconcilers.nic_parts import Switch

Mending = PlugIn | ConfigureSwitch
Loose = tuple[VmId, Mending]
"""Whose it is, and what mends it."""

_PORTS_AT_ONCE = 50
"""Of a transaction of Open vSwitch, which has to end within the seconds that ``ovs`` gives it."""


def joined(network: Network, done: Iterable[Step]) -> set[str]:
    """The bridges that were made, or that NICs of the VM were put back into, by what was done. Pure."""
    sides = {nic.host_name for nic in network.nics}
    found = set()
    for step in done:
        match step:
            case CreateBridge(name):
                found.add(name)
            case PlugIn(name, bridge) if name in sides:
                found.add(bridge)
            case ConfigureSwitch((_, "add-br" | "add-port", bridge, *_)):
                found.add(bridge)
    return found


def find_loose(bridges: set[str], networks: Iterable[Network], links: Iterable[Notice]) -> dict[int, Loose]:
    """By index, the host sides that should be in one of the bridges and are in none. Pure.

    ``links`` are all that are known of. Sides with VLANs of their own in a Linux bridge are left to their VM's look:
    what passes them has to be said in the same breath.
    """
    wanted = {name: one for network in networks for name, one in _sides(network, bridges)}
    return {
        link.index: wanted[link.name]
        for link in links
        if link.loose and link.name in wanted and link.group == vm_group(wanted[link.name][0])
    }


def plug(loose: Mapping[int, Loose]) -> dict[VmId, list[Mending]]:
    """Plug them in; returns what was done for whom. Blocking, in a thread that belongs to namespaces.

    What cannot be done is left to the VM's own look, which says why.
    """
    done: dict[VmId, list[Mending]] = {}
    for vm, step in (*_plug_linux(loose), *_plug_switch(loose.values())):
        done.setdefault(vm, []).append(step)
    return done


def _plug_linux(loose: Mapping[int, Loose]) -> Iterator[Loose]:
    steps = {index: (vm, step) for index, (vm, step) in loose.items() if isinstance(step, PlugIn)}
    if not steps:
        return
    namespaces.enter_home()
    with IPRoute() as host:
        names = {step.bridge for _, step in steps.values()}
        bridges = {name: index for name in names for index in host.link_lookup(ifname=name)}
        for index, (vm, step) in steps.items():
            if step.bridge in bridges:
                with suppress(NetlinkError):
                    host.link("set", index=index, master=bridges[step.bridge])
                    yield vm, step


def _plug_switch(loose: Iterable[Loose]) -> Iterator[Loose]:
    ports = [(vm, step) for vm, step in loose if isinstance(step, ConfigureSwitch)]
    for start in range(0, len(ports), _PORTS_AT_ONCE):
        some = ports[start : start + _PORTS_AT_ONCE]
        with suppress(OnedockError):
            ovs.transact([word for _, step in some for word in step.commands])
            yield from some


def _sides(network: Network, bridges: set[str]) -> Iterator[tuple[str, Loose]]:
    """Host sides in these bridges, and what plugs them in."""
    for nic in network.nics:
        if nic.bridge not in bridges:
            continue
        if nic.switch is Switch.LINUX and nic.trunk is None:
            yield nic.host_name, (network.vm, PlugIn(nic.host_name, nic.bridge))
        elif nic.switch is Switch.OPENVSWITCH:
            yield nic.host_name, (network.vm, add_port(network.vm, nic))
