"""What has to be loaded for a VM: in its own namespace, and in the agent's. Pure."""

from onedock.nodeside.agent.firewall import host, vm
from onedock.nodeside.agent.firewall.document import Document, Ruleset, text
from onedock.reconcilers.model import Network

__all__ = ["Ruleset", "host_ruleset", "vm_ruleset"]


def vm_ruleset(network: Network) -> Ruleset | None:
    """Security groups, for the VM's namespace; None when all NICs let everything through.

    Raises TerminalError when a group's rules overlap too much for the kernel.
    """
    nics = [nic for nic in network.nics if vm.is_filtered(nic)]
    if not nics:
        return None
    stateful, guard = vm.stateful(nics), vm.guard(nics)
    if guard is None:
        return _ruleset(stateful)
    return Ruleset((stateful.table, guard.table), text([stateful, guard]), text([stateful]))


def host_ruleset(network: Network) -> Ruleset | None:
    """Filters against forging and the limit of raw frames, for the agent's namespace; None when none is asked for."""
    nics = [nic for nic in network.nics if host.is_watched(nic)]
    return _ruleset(host.watch(network.vm, nics)) if nics else None


def _ruleset(document: Document) -> Ruleset:
    return Ruleset((document.table,), text([document]))
