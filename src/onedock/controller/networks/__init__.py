"""The network of a VM: from OpenNebula's elements NIC, NIC_ALIAS, SECURITY_GROUP_RULE and CONTEXT to a ``Network``.

Pure. docs/networking.md has a table of every attribute and its effect. Sources of facts: protocol reference 6, and the
stock drivers of OpenNebula 7.4 (src/vnm_mad/remotes) where a module names a file of theirs.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from onedock.config.settings import ContainerSettings, NetworkSettings
from onedock.controller.documents import Attributes, VmDocument
from onedock.controller.networks.nics import build_nic, in_order
from onedock.controller.networks.notes import network_notes
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic

MAX_RULES = 16384
"""Of a VM: as many as the agent surely takes in one request."""

__all__ = ["build_network", "network_notes"]


def build_network(
    vm: VmDocument,
    *,
    hostname: str,
    settings: ContainerSettings,
    networks_settings: NetworkSettings,
    leave_out_marked: bool = False,
) -> tuple[Network, tuple[tuple[str, str], ...]]:
    """The VM's network, and the (name, address) pairs for its /etc/hosts.

    Args:
        vm: the VM.
        hostname: its host name.
        settings: defaults for containers.
        networks_settings: defaults for networks.
        leave_out_marked: without the NIC or alias with ATTACH=YES, which is what DETACHNIC is about (protocol
            reference 2.2). A NIC takes its aliases with it.

    Raises:
        TerminalError: a NIC that cannot be plugged as asked; the text says which, why and the remedy.
    """
    for pci in vm.pcis:
        if pci.get("NETWORK_ID") or pci.get("TYPE", "").upper() == "NIC":
            network = pci.get("NETWORK", "?")[:30]
            raise TerminalError(f"network {network!r} is attached by PCI passthrough; use a NIC without it")
    if leave_out_marked:
        vm = replace(vm, nics=_unmarked(vm.nics), aliases=_unmarked(vm.aliases))
    nics = _told_apart([build_nic(vm, nic, settings, networks_settings) for nic in in_order(vm.nics)])
    if (rules := sum(len(nic.rules or ()) for nic in nics)) > MAX_RULES:
        raise TerminalError(f"the VM's NICs have {rules} security rules together; at most {MAX_RULES} work; join some")
    first = next((address.partition("/")[0] for nic in nics for address in nic.addresses), None)
    return Network(vm.id, nics, settings.dns), ((hostname, first),) if first else ()


def _told_apart(nics: list[Nic]) -> tuple[Nic, ...]:
    """NICs of one network have its METRIC, but routes to one destination need different ones: the first NIC wins."""
    metrics, metrics6 = _distinct(nic.metric for nic in nics), _distinct(nic.metric6 for nic in nics)
    told = zip(nics, metrics, metrics6, strict=True)
    return tuple(replace(nic, metric=number, metric6=number6) for nic, number, number6 in told)


def _distinct(numbers: Iterable[int | None]) -> Iterator[int | None]:
    """Each number, or the next one that none before has."""
    taken: set[int] = set()
    for number in numbers:
        if number is not None:
            number = next(free for free in itertools.count(number) if free not in taken)
            taken.add(number)
        yield number


def _unmarked(nics: tuple[Attributes, ...]) -> tuple[Attributes, ...]:
    return tuple(nic for nic in nics if nic.get("ATTACH", "").upper() != "YES")
