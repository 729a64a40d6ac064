"""Security groups and filters against forging: loaded as a whole, or not there."""

from collections.abc import Iterator

from onedock.nodeside.agent.firewall.ruleset import host_ruleset, vm_ruleset
from onedock.nodeside.agent.seen import Seen
from onedock.nodeside.agent.steps import DropRules, LoadRules, Scope, Step
from onedock.reconcilers.model import Network


def plan_rules(wanted: Network, seen: Seen, *, is_new: bool) -> Iterator[Step]:
    """The rules are there and unharmed; ``is_new``: some NIC is only made now, and rules bound to a name may be gone.

    Raises TerminalError when the rules are too many for the kernel.
    """
    for scope, ruleset in ((Scope.VM, vm_ruleset(wanted)), (Scope.NODE, host_ruleset(wanted))):
        if ruleset is not None and (is_new or seen.rules.get(scope) != ruleset.digest):
            yield LoadRules(scope, ruleset)
        if ruleset is None and scope in seen.rules:
            yield DropRules(scope)
