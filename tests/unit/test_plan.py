"""The plan of one VM: it converges, it rests, and it never loses what is not its own to lose."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.effects import NEVER, effect, provided
from tests.support.specs import VM, containers, desired_states, observations, running, vm_spec

from onedock.reconcilers.actions import (
    Action,
    BindNamespace,
    CreateContainer,
    EnsureNetwork,
    PullImage,
    RemoveContainer,
    StartContainer,
    StopContainer,
    UnpauseContainer,
    UpdateLimits,
)
from onedock.reconcilers.drift import describe_exit, find_drift
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Container, ContainerId, Desired, Observed, Phase, Power
from onedock.reconcilers.vm import plan


def carried_out(observed: Observed, actions: tuple[Action, ...]) -> Observed:
    for action in actions:
        observed = effect(observed, action)
    return observed


def satisfied(desired: Desired, observed: Observed) -> bool:
    """What the user was promised, said without ``plan``."""
    container = observed.container
    match desired.power:
        case Power.RUNNING:
            assert desired.spec is not None
            return (
                container is not None
                and container.phase in {Phase.RUNNING, Phase.RESTARTING}
                and container.instance == desired.spec.instance
                and container.limits == desired.spec.container.limits()
                and container.started_at != desired.restart_from
                and observed.network is not None
                and observed.network.provides(desired.spec.network)
                and container.id in observed.network.containers
            )
        case Power.STOPPED:
            down = container is None or container.phase in {Phase.CREATED, Phase.EXITED}
            return down and observed.network is None
        case Power.ABSENT:
            return container is None and observed.network is None
        case Power.SUSPENDED:
            return desired.spec is None or observed.network is None or observed.network.provides(desired.spec.network)


@given(desired_states(), observations())
def test_plan_converges_and_then_rests(desired: Desired, observed: Observed) -> None:
    after = carried_out(observed, plan(desired, observed))
    assert satisfied(desired, after)
    assert plan(desired, after) == ()


@given(desired_states(), observations(), st.lists(st.integers(0, 12), max_size=6))
def test_interrupted_plans_still_end_with_exactly_what_is_wanted(
    desired: Desired, observed: Observed, cuts: list[int]
) -> None:
    for cut in cuts:
        observed = carried_out(observed, plan(desired, observed)[:cut])
    after = carried_out(observed, plan(desired, observed))
    assert satisfied(desired, after)
    assert plan(desired, after) == ()


@given(desired_states(), observations(), st.lists(st.tuples(desired_states(), st.integers(0, 12)), max_size=4))
def test_minds_may_change_half_way(desired: Desired, observed: Observed, changes: list[tuple[Desired, int]]) -> None:
    for other, cut in changes:
        observed = carried_out(observed, plan(other, observed)[:cut])
    after = carried_out(observed, plan(desired, observed))
    assert satisfied(desired, after)


@given(desired_states(), observations())
def test_a_foreign_container_is_never_touched(desired: Desired, observed: Observed) -> None:
    foreign = Container(ContainerId("theirs"), f"one-{VM}", None, "", "", "x", Phase.RUNNING, started_at="run-a")
    observed = replace(observed, container=foreign)
    if desired.power in {Power.RUNNING, Power.STOPPED}:
        with pytest.raises(TerminalError, match="taken"):
            plan(desired, observed)
    else:
        assert carried_out(observed, plan(desired, observed)).container == foreign


@given(desired_states(), observations())
def test_what_ran_is_kept_unless_nothing_is_wanted(desired: Desired, observed: Observed) -> None:
    container = observed.container
    after = carried_out(observed, plan(desired, observed))
    if container is None or not container.ever_started or desired.power is Power.ABSENT:
        return
    if desired.spec is None or container.instance == desired.spec.instance or desired.power is not Power.RUNNING:
        assert after.container is not None
        assert after.container.id == container.id


@given(desired_states(), observations())
def test_the_network_is_complete_before_a_process_starts(desired: Desired, observed: Observed) -> None:
    for action in plan(desired, observed):
        if isinstance(action, StartContainer):
            assert desired.spec is not None
            assert observed.network is not None
            assert observed.network.provides(desired.spec.network)
        observed = effect(observed, action)


@pytest.mark.parametrize("power", [Power.STOPPED, Power.ABSENT, Power.SUSPENDED])
@given(data=st.data())
def test_nothing_starts_that_is_not_to_run(power: Power, data: st.DataObject) -> None:
    actions = plan(data.draw(desired_states(power)), data.draw(observations()))
    assert not [a for a in actions if isinstance(a, StartContainer | CreateContainer | PullImage)]


@given(desired_states(Power.SUSPENDED), observations())
def test_of_what_was_frozen_by_hand_only_the_network_follows(desired: Desired, observed: Observed) -> None:
    actions = plan(desired, observed)
    if desired.spec is None or observed.network is None or observed.network.provides(desired.spec.network):
        assert actions == ()
    else:
        assert actions == (EnsureNetwork(desired.spec.network),)


@given(desired_states(Power.STOPPED), observations())
def test_what_is_stopped_has_no_network(desired: Desired, observed: Observed) -> None:
    assert not [a for a in plan(desired, observed) if isinstance(a, EnsureNetwork)]


@given(desired_states(Power.RUNNING), containers())
def test_a_run_ends_only_for_a_restart_or_another_instance(desired: Desired, container: Container) -> None:
    assert desired.spec is not None
    actions = plan(desired, Observed(True, container, provided(desired.spec.network, (container.id,))))
    ends = [a for a in actions if isinstance(a, StopContainer | RemoveContainer)]
    if container.phase in {Phase.RUNNING, Phase.PAUSED} and container.instance == desired.spec.instance:
        assert bool(ends) == (container.started_at == desired.restart_from)


SPEC = vm_spec()
ANEW = [RemoveContainer, PullImage, CreateContainer, BindNamespace, StartContainer]
HERE = provided(SPEC.network, (ContainerId("old"),))
OLD = Container(
    id=ContainerId("old"),
    name=f"one-{VM}",
    vm=VM,
    instance="first",
    spec_digest=SPEC.container.digest(),
    image=SPEC.container.image,
    phase=Phase.RUNNING,
    started_at="run-a",
    limits=SPEC.container.limits(),
)
UNUSED = replace(OLD, phase=Phase.CREATED, started_at=NEVER)


def test_deploy_on_an_empty_node() -> None:
    assert plan(running(SPEC), Observed()) == (
        EnsureNetwork(SPEC.network),
        PullImage(SPEC.container.image),
        CreateContainer(VM, "first", SPEC.container),
        BindNamespace(VM, None),
        StartContainer(VM, None),
    )


@pytest.mark.parametrize(
    ("left_over", "kinds"),
    [
        (UNUSED, [StartContainer]),
        (replace(UNUSED, spec_digest="other"), ANEW),
        (replace(OLD, phase=Phase.EXITED), [StartContainer]),
        (replace(OLD, phase=Phase.EXITED, spec_digest="other"), [StartContainer]),
        (OLD, []),
        (replace(OLD, phase=Phase.RESTARTING), []),
        (replace(OLD, phase=Phase.PAUSED), [UnpauseContainer]),
        (replace(OLD, limits=(1, 2, 3, 4)), [UpdateLimits]),
        (replace(OLD, instance="second"), ANEW),
    ],
    ids=["created", "created, other spec", "exited", "exited, other spec", "running", "restarting", "paused", "limits",
         "other instance"],
)  # fmt: skip
def test_deploy_on_a_left_over(left_over: Container, kinds: list[type[Action]]) -> None:
    actions = plan(running(SPEC), Observed(False, left_over, HERE))
    assert [type(action) for action in actions] == kinds


def test_a_vm_without_a_spec_cannot_run() -> None:
    with pytest.raises(TerminalError, match="deploy it again"):
        plan(replace(running(SPEC), spec=None), Observed())


def test_a_restart_ends_the_run_it_was_asked_for_and_no_other() -> None:
    asked = replace(running(SPEC), restart_from="run-a", grace_s=3.0)
    assert plan(asked, Observed(True, OLD, HERE)) == (StopContainer(OLD.id, 3.0), StartContainer(VM, OLD.id))
    assert plan(asked, Observed(True, replace(OLD, started_at="run-b"), HERE)) == ()
    assert plan(asked, Observed(True, replace(OLD, phase=Phase.EXITED), HERE)) == (StartContainer(VM, OLD.id),)


def test_oned_asked_for_it_so_it_is_no_drift() -> None:
    stopped = replace(running(SPEC), power=Power.STOPPED)
    absent = replace(running(SPEC), power=Power.ABSENT)
    for container in (OLD, replace(OLD, phase=Phase.EXITED), replace(OLD, phase=Phase.PAUSED)):
        assert find_drift(stopped, Observed(True, container)) is None
        assert find_drift(absent, Observed(True, container)) is None
    assert find_drift(absent, Observed(True, None)) is None


@pytest.mark.parametrize(
    ("power", "container", "becomes", "reason"),
    [
        (Power.RUNNING, None, Power.STOPPED, "ContainerRemoved"),
        (Power.RUNNING, replace(OLD, vm=None), Power.STOPPED, "ContainerRemoved"),
        (Power.RUNNING, replace(OLD, phase=Phase.EXITED, exit_code=3), Power.STOPPED, "Exited"),
        (Power.RUNNING, replace(OLD, phase=Phase.EXITED, oom_killed=True), Power.STOPPED, "OutOfMemory"),
        (Power.RUNNING, replace(OLD, phase=Phase.DEAD), Power.STOPPED, "Exited"),
        (Power.RUNNING, replace(OLD, phase=Phase.PAUSED), Power.SUSPENDED, "Paused"),
        (Power.SUSPENDED, OLD, Power.RUNNING, "Unpaused"),
        (Power.SUSPENDED, replace(OLD, phase=Phase.EXITED), Power.STOPPED, "Exited"),
        (Power.SUSPENDED, None, Power.STOPPED, "ContainerRemoved"),
        (Power.STOPPED, None, Power.STOPPED, "ContainerRemoved"),
    ],
)
def test_what_happened_without_oned_is_named(
    power: Power, container: Container | None, becomes: Power, reason: str
) -> None:
    drift = find_drift(replace(running(SPEC), power=power), Observed(True, container, HERE))
    assert drift is not None
    assert (drift.power, drift.reason) == (becomes, reason)
    assert drift.message


def test_what_is_as_wanted_is_no_drift() -> None:
    assert find_drift(running(SPEC), Observed(True, OLD, HERE)) is None
    assert find_drift(running(SPEC), Observed(True, UNUSED, HERE)) is None
    suspended = replace(running(SPEC), power=Power.SUSPENDED)
    assert find_drift(suspended, Observed(True, replace(OLD, phase=Phase.PAUSED), HERE)) is None


@given(st.sampled_from(Power), observations())
def test_an_adopted_drift_is_no_drift_again(power: Power, observed: Observed) -> None:
    desired = replace(running(SPEC), power=power)
    if drift := find_drift(desired, observed):
        again = find_drift(replace(desired, power=drift.power), observed)
        assert again is None or again == drift  # a lost container is lost in every look; its power stays


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (0, "exit code 0"),
        (1, "exit code 1"),
        (137, "SIGKILL"),
        (128 + 64, "SIGRTMAX"),
        (200, "exit code 200"),
        (255, "did not see"),
    ],
)
def test_an_exit_is_described_with_its_signal(code: int, says: str) -> None:
    assert says in describe_exit(replace(OLD, phase=Phase.EXITED, exit_code=code))


def test_an_exit_is_described_with_memory_and_the_engines_words() -> None:
    text = describe_exit(replace(OLD, phase=Phase.EXITED, exit_code=137, oom_killed=True, error="boom"))
    assert "raise MEMORY" in text
    assert text.endswith(": boom")
