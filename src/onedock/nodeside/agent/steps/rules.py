"""Changes to what may pass a VM's NICs."""

from dataclasses import dataclass
from enum import StrEnum

from onedock.nodeside.agent.firewall.document import Ruleset


class Scope(StrEnum):
    """Where rules are."""

    VM = "inside"
    """In the VM's namespace: security groups."""
    NODE = "outside"
    """In the agent's namespace: what the VM may not forge."""


@dataclass(frozen=True, slots=True)
class LoadRules:
    """Replace the VM's rules of one scope, all at once."""

    scope: Scope
    ruleset: Ruleset


@dataclass(frozen=True, slots=True)
class DropRules:
    """Remove the VM's rules of one scope."""

    scope: Scope


RulesStep = LoadRules | DropRules
