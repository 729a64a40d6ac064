"""When rules are loaded and dropped, and that nothing passes before."""

from dataclasses import replace

import pytest

from onedock.nodeside.agent.firewall.loaded import DAMAGED
from onedock.nodeside.agent.firewall.ruleset import host_ruleset, vm_ruleset
from onedock.nodeside.agent.plan import plan
from onedock.nodeside.agent.plan.rules import plan_rules
from onedock.nodeside.agent.seen import Seen
from onedock.nodeside.agent.steps import CreateVeth, DropRules, LoadRules, RaiseNic, Scope
from onedock.nodeside.agent.steps.words import in_words
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Spoofing

VM = VmId(230_002)
PLAIN = Nic(0, "eth0", "one-230002-0", "02:00:00:00:00:01", "br0", addresses=("10.0.0.1/24",))
FILTERED = Network(VM, (replace(PLAIN, rules=(), spoofing=Spoofing(mac=True)),))
INSIDE, OUTSIDE = vm_ruleset(FILTERED), host_ruleset(FILTERED)
assert INSIDE is not None
assert OUTSIDE is not None
LOADS = [LoadRules(Scope.VM, INSIDE), LoadRules(Scope.NODE, OUTSIDE)]
SAME = {Scope.VM: INSIDE.digest, Scope.NODE: OUTSIDE.digest}


@pytest.mark.parametrize("number", [1, 3])
def test_rules_are_there_before_the_first_packet(number: int) -> None:
    nics = (replace(FILTERED.nics[0], index=n, name=f"eth{n}", host_name=f"one-230002-{n}") for n in range(number))
    kinds = [type(step) for step in plan(Network(VM, tuple(nics)), Seen())]
    assert kinds.count(LoadRules) == 2
    last_veth = max(place for place, kind in enumerate(kinds) if kind is CreateVeth)
    loads = [place for place, kind in enumerate(kinds) if kind is LoadRules]
    assert last_veth < min(loads) <= max(loads) < kinds.index(RaiseNic)


def test_what_is_loaded_is_left_alone() -> None:
    assert list(plan_rules(FILTERED, Seen(rules=SAME), is_new=False)) == []
    assert list(plan_rules(Network(VM, (PLAIN,)), Seen(), is_new=True)) == []


def test_a_nic_that_is_made_again_may_have_lost_its_chain() -> None:
    assert list(plan_rules(FILTERED, Seen(rules=SAME), is_new=True)) == LOADS


@pytest.mark.parametrize("rules", [{}, {Scope.VM: "other", Scope.NODE: "other"}, dict.fromkeys(Scope, DAMAGED)])
def test_what_is_not_there_or_not_the_same_is_loaded(rules: dict[Scope, str]) -> None:
    assert list(plan_rules(FILTERED, Seen(rules=rules), is_new=False)) == LOADS


def test_what_is_not_wanted_goes() -> None:
    found = list(plan_rules(Network(VM, (PLAIN,)), Seen(rules={**SAME, Scope.NODE: DAMAGED}), is_new=False))
    assert found == [DropRules(Scope.VM), DropRules(Scope.NODE)]


def test_in_words() -> None:
    assert [in_words(step) for step in LOADS] == [
        f"load rules inside {SAME[Scope.VM]}",
        f"load rules outside {SAME[Scope.NODE]}",
    ]
    assert in_words(DropRules(Scope.NODE)) == "drop rules outside"
