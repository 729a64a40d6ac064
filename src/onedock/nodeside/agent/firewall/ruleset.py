"""What has to be loaded for a VM: in its own namespace, and in the agent's. Pure."""

from functools import lru_cache

from onedock.nodeside.agent.firewall import host, vm
from onedock.nodeside.agent.firewall.document import Ruleset, Table, text
from onedock.reconcilers.model import Network, Nic, VmId

__all__ = ["INSIDE", "Ruleset", "guard_of_loopback", "host_ruleset", "vm_ruleset"]

INSIDE: tuple[Table, ...] = (("inet", vm.TABLE), ("netdev", vm.TABLE))
"""Tables of a VM in its own namespace."""

_KEPT = 64
"""So many are remembered: every look at a network asks for its rules, and a thousand take their time."""


def vm_ruleset(network: Network) -> Ruleset | None:
    """Security groups and the guard of leases, for the VM's namespace; None when no NIC needs any.

    Raises TerminalError when a group's rules overlap too much for the kernel.
    """
    nics = tuple(nic for nic in network.nics if vm.is_filtered(nic) or vm.guards_lease(nic))
    return _inside(nics) if nics else None


def host_ruleset(network: Network) -> Ruleset | None:
    """Filters against forging and the limit of raw frames, for the agent's namespace; None when none is asked for."""
    nics = tuple(nic for nic in network.nics if host.is_watched(nic))
    return _outside(network.vm, nics) if nics else None


def guard_of_loopback() -> Ruleset:
    """The guard against raw frames, for a link that is everywhere: to try whether a kernel has what it needs."""
    guard = vm.guard((Nic(0, "lo", "", "", "", rules=()),))
    assert guard is not None
    return Ruleset((guard.table,), text([guard]))


@lru_cache(_KEPT)
def _inside(nics: tuple[Nic, ...]) -> Ruleset:
    stateful, guard = vm.stateful(nics), vm.guard(nics)
    unguarded = text([stateful], INSIDE[1:])
    if guard is None:
        return Ruleset(INSIDE, unguarded)
    return Ruleset(INSIDE, text([stateful, guard]), unguarded=unguarded)


@lru_cache(_KEPT)
def _outside(number: VmId, nics: tuple[Nic, ...]) -> Ruleset:
    return Ruleset((), text([host.watch(number, nics)]), host.part(number, nics))
