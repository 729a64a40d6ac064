"""Security groups and filters against forging."""

from contextlib import AbstractContextManager, nullcontext

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.firewall.loaded import LOADED
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.steps import DropRules, LoadRules, RulesStep, Scope


def apply_rules(kernel: Kernel, step: RulesStep) -> None:
    """Do one step, where its scope is. Raises TransientError or TerminalError."""
    with _place(step.scope):
        match step:
            case LoadRules(scope, ruleset):
                LOADED.load(kernel.vm, scope, ruleset)
            case DropRules(scope):
                LOADED.drop(kernel.vm, scope)


def _place(scope: Scope) -> AbstractContextManager[None]:
    return nullcontext() if scope is Scope.VM else namespaces.at_home()
