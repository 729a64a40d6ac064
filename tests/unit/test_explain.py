"""The one cause that blocks a VM: a cause comes before what it brings about. And what differs, field by field."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from tests.support.effects import provided
from tests.support.specs import VM, desired_states, observations, running, vm_spec

from onedock.controller.compare import compare, describe_action, describe_phase
from onedock.controller.documents import History, VmDocument
from onedock.controller.explain import Situation, find_cause
from onedock.controller.intents import Channel, IntentState
from onedock.controller.journal_rows import IntentRow
from onedock.reconcilers.actions import Action, StartContainer, StopContainer
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Condition, Container, ContainerId, Desired, NodeName, Observed, Phase, Power
from onedock.reconcilers.vm import plan

SPEC = vm_spec()
RUNNING = Condition("Running", ok=True, reason="Deploy")
DOWN = Condition("Engine", ok=False, reason="NotUsable", message="the engine is down")
FAILED = IntentRow(
    1, Channel.VMM, "DEPLOY", VM, NodeName("node1"), 1.0, IntentState.DONE, ok=False, info="no such user"
)
ACTIVE, POWEROFF, PENDING, DONE = 3, 8, 1, 6
BOOT_FAILURE = 36


def document(state: int = ACTIVE, lcm_state: int = 3, *, vm_mad: str = "onedock", **user: str) -> VmDocument:
    return VmDocument(VM, "web", state, lcm_state, 0, "", user_attributes=user, history=History(vm_mad=vm_mad))


FINE = Situation(VM, "onedock", desired=running(SPEC), running=RUNNING, document=document(), links={"vmm": True})
BY_RANK: tuple[tuple[dict[str, Any], str], ...] = (
    ({"journal_error": "the journal is full"}, "the journal is full"),
    ({"node_conditions": (DOWN,)}, "the engine is down"),
    ({"error": "pull failed", "retry_in_s": 4.0}, "pull failed (tried again in 4 s)"),
    ({"look_error": "not looked"}, "not looked"),
    ({"plan_error": "the name is taken"}, "the name is taken"),
    ({"in_progress": "DEPLOY for 3 s"}, "in progress: DEPLOY for 3 s"),
    ({"oned_error": "oned is away"}, "oned is away"),
    ({"document": document(ACTIVE, BOOT_FAILURE), "recent": (FAILED,)}, "DEPLOY failed: no such user"),
    ({"running": Condition("Running", ok=False, reason="Exited", message="exit code 1")}, "exit code 1"),
    ({"links": {"vmm": False}}, "onedock-vmm is not connected"),
    ({"waiting": ("waiting for a DHCP lease on eth0: nobody",)}, "waiting for a DHCP lease on eth0"),
    ({"plan": ("start the container",)}, "the next pass will: start the container"),
)


@pytest.mark.parametrize(("change", "cause"), BY_RANK, ids=[cause for _, cause in BY_RANK])
def test_each_cause_alone_is_named(change: dict[str, Any], cause: str) -> None:
    found = find_cause(replace(FINE, **change))
    assert cause in found.text
    assert found.blocking is not cause.startswith("in progress")


def test_of_several_causes_the_first_in_rank_is_named() -> None:
    for rank in range(len(BY_RANK)):
        together: dict[str, Any] = {}
        for change, _ in reversed(BY_RANK[rank:]):
            together |= change
        assert BY_RANK[rank][1] in find_cause(replace(FINE, **together)).text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "nothing blocks it: it is running on node1"),
        ({"recent": (FAILED,)}, "the last request, DEPLOY, failed: no such user"),
        ({"desired": None, "document": None}, "OpenNebula has no such VM"),
        ({"desired": None, "document": document(DONE)}, "DONE in OpenNebula"),
        ({"desired": None, "document": document(vm_mad="kvm")}, "belongs to the driver 'kvm'"),
        ({"desired": Desired(VM, NodeName("node1"), Power.ABSENT)}, "nothing of it is on a node"),
        ({"node_conditions": (replace(DOWN, name="LiveRestore"),)}, "nothing blocks it"),
    ],
)
def test_what_blocks_nothing_is_said_as_such(change: dict[str, Any], words: str) -> None:
    found = find_cause(replace(FINE, **change))
    assert words in found.text
    assert not found.blocking


def test_a_vm_without_a_host_has_the_scheduler_speak() -> None:
    waiting = document(PENDING, 0, vm_mad="", SCHED_MESSAGE="no host has enough memory")
    found = find_cause(replace(FINE, desired=None, document=waiting))
    assert found.text == "OpenNebula has not placed the VM on a host: no host has enough memory"


def test_a_failure_that_is_forgotten_here_is_taken_from_opennebula() -> None:
    found = find_cause(replace(FINE, document=document(ACTIVE, BOOT_FAILURE, ERROR="Error: no such image")))
    assert found.text == "OpenNebula shows BOOT_FAILURE: Error: no such image"


def container(**changes: Any) -> Container:
    usual = Container(
        ContainerId("a" * 64), f"one-{VM}", VM, SPEC.instance, SPEC.container.digest(), SPEC.container.image,
        Phase.RUNNING, started_at="2026-01-01T00:00:00Z", limits=SPEC.container.limits(),
    )  # fmt: skip
    return replace(usual, **changes)


def differences(observed: Observed, desired: Desired | None = None) -> dict[str, str]:
    return {row.field: row.observed for row in compare(desired or running(SPEC), observed) if not row.same}


def test_a_vm_as_wanted_differs_in_nothing() -> None:
    assert differences(Observed(container=container(), network=provided(SPEC.network))) == {}


def test_each_difference_is_told_with_both_sides() -> None:
    network = provided(SPEC.network)
    moved = replace(network.nics[0], nic=replace(network.nics[0].nic, addresses=("10.0.0.99/24",)))
    observed = Observed(
        container=container(limits=(2, 0, 0, 0), phase=Phase.EXITED, exit_code=137, oom_killed=True),
        network=replace(network, nics=(moved,)),
    )
    assert differences(observed) == {
        "power": "exited, exit code 137, out of memory",
        "limits": "all cores, weight 2, 0 MB, 0 processes",
        "eth0": "addresses 10.0.0.99/24 (wanted 10.0.0.10/24)",
    }


def test_what_is_missing_is_told() -> None:
    assert differences(Observed()) == {"power": "no container", "image": "not in the engine", "eth0": "unplugged"}


@given(desired=desired_states(), observed=observations())
def test_an_empty_plan_means_no_difference_that_a_pass_would_mend(desired: Desired, observed: Observed) -> None:
    try:
        actions = plan(desired, observed)
    except TerminalError:
        return
    texts = [describe_action(action) for action in actions]
    assert all(texts)
    rows = compare(desired, observed)
    assert rows[0].field == "power"
    if not actions and desired.power is Power.RUNNING and desired.spec is not None:
        changed = {row.field for row in rows if not row.same}
        # A container that is being restarted by the engine counts as alive.
        assert changed <= {"power"}


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (StartContainer(VM, None), "start the container"),
        (StopContainer(ContainerId("a"), None), "kill the container"),
        (StopContainer(ContainerId("a"), 10.0), "stop the container, after 10 s kill it"),
    ],
)
def test_an_action_is_a_short_sentence(action: Action, text: str) -> None:
    assert describe_action(action) == text


def test_no_container_is_a_phase_in_words() -> None:
    assert describe_phase(None) == "no container"
