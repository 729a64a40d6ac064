"""A bridge that comes back, for all of its VMs at once: what each of them would do alone takes them long in a row."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.healing.notices import Notice
from onedock.nodeside.agent.seen import vm_group
from onedock.nodeside.agent.steps import CreateBridge, PlugIn, Step
from onedock.reconcilers.model import Network, VmId
from onedock.reconcilers.nic_parts import Switch

Loose = tuple[VmId, PlugIn]
"""Whose it is, and what mends it."""


def joined(network: Network, done: Iterable[Step]) -> set[str]:
    """The bridges that were made, or that NICs of the VM were put back into, by what was done. Pure."""
    sides = {nic.host_name for nic in network.nics}
    plugged = {step.bridge for step in done if isinstance(step, PlugIn) and step.name in sides}
    return plugged | {step.name for step in done if isinstance(step, CreateBridge)}


def find_loose(bridges: set[str], networks: Iterable[Network], links: Iterable[Notice]) -> dict[int, Loose]:
    """By index, the host sides that should be in one of the bridges and are in none. Pure.

    ``links`` are all that are known of. Sides with VLANs of their own are left to their VM's look: what passes them
    has to be said in the same breath.
    """
    wanted = {step.name: (vm, step) for network in networks for vm, step in _sides(network, bridges)}
    return {
        link.index: wanted[link.name]
        for link in links
        if link.loose and link.name in wanted and link.group == vm_group(wanted[link.name][0])
    }


def plug(loose: Mapping[int, Loose]) -> dict[VmId, list[PlugIn]]:
    """Plug them in; returns what was done for whom. Blocking, in a thread that belongs to namespaces.

    What cannot be done is left to the VM's own look, which says why.
    """
    done: dict[VmId, list[PlugIn]] = {}
    namespaces.enter_home()
    with IPRoute() as host:
        names = {step.bridge for _, step in loose.values()}
        bridges = {name: index for name in names for index in host.link_lookup(ifname=name)}
        for index, (vm, step) in loose.items():
            if step.bridge in bridges:
                with suppress(NetlinkError):
                    host.link("set", index=index, master=bridges[step.bridge])
                    done.setdefault(vm, []).append(step)
    return done


def _sides(network: Network, bridges: set[str]) -> Iterator[Loose]:
    for nic in network.nics:
        if nic.switch is Switch.LINUX and nic.bridge in bridges and nic.trunk is None:
            yield network.vm, PlugIn(nic.host_name, nic.bridge)
