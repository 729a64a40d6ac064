"""Observe, plan, apply over stateful fakes: a fault at any call, and the next passes still end with one container."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from tests.support.fakes import BROKEN_COMMAND, FakeEngine, FakeNetworks, Fault, faulty
from tests.support.specs import IMAGE, VM, running, vm_spec

from onedock.reconcilers.actions import Action
from onedock.reconcilers.errors import OnedockError, TerminalError, TransientError
from onedock.reconcilers.model import ContainerId, Desired, Observed, Phase, Power, VmId
from onedock.reconcilers.runner import Runner

SPEC = vm_spec()


class World:
    """A node in memory, and a runner through which calls may fail."""

    def __init__(self) -> None:
        self.engine = FakeEngine(registry=[IMAGE])
        self.networks = FakeNetworks()
        self.fault_at: tuple[int, Fault] | None = None
        self.calls = 0
        self.done: list[tuple[VmId, str]] = []
        self.runner = self._runner(
            faulty(self.engine, self._decide),
            faulty(self.networks, self._decide),
        )
        self.sound = self._runner(self.engine, self.networks)

    def _runner(self, engine: FakeEngine, networks: FakeNetworks) -> Runner:
        return Runner(engine, networks, starts=2, on_action=self._note)

    def _note(self, vm: VmId, action: Action, seconds: float) -> None:
        self.done.append((vm, type(action).__name__))

    def _decide(self, name: str) -> Fault:
        self.calls += 1
        return self.fault_at[1] if self.fault_at is not None and self.calls == self.fault_at[0] else Fault.NONE

    def phase(self) -> Phase | None:
        """The phase of the VM's only container."""
        assert len(self.engine.containers) <= 1
        return next((c.phase for c in self.engine.containers.values()), None)


async def _nothing(world: World) -> None:
    pass


async def _deployed(world: World) -> None:
    await world.sound.converge(running(SPEC))


async def _frozen(world: World) -> None:
    await _deployed(world)
    world.engine.pause(VM)


async def _stale(world: World) -> None:
    await world.sound.converge(running(vm_spec(instance="another")))


def _restart(world: World) -> Desired:
    (container,) = world.engine.containers.values()
    return replace(running(SPEC), restart_from=container.started_at, grace_s=1.0)


JOURNEYS: dict[str, tuple[Callable[[World], Awaitable[None]], Callable[[World], Desired], Phase | None]] = {
    "deploy": (_nothing, lambda world: running(SPEC), Phase.RUNNING),
    "deploy over another instance": (_stale, lambda world: running(SPEC), Phase.RUNNING),
    "resume of a frozen one": (_frozen, lambda world: running(SPEC), Phase.RUNNING),
    "restart": (_deployed, _restart, Phase.RUNNING),
    "restart of a frozen one": (_frozen, _restart, Phase.RUNNING),
    "poweroff": (_deployed, lambda world: Desired(VM, SPEC.node, Power.STOPPED, grace_s=1.0), Phase.EXITED),
    "poweroff of a frozen one": (_frozen, lambda world: Desired(VM, SPEC.node, Power.STOPPED), Phase.EXITED),
    "terminate": (_deployed, lambda world: Desired(VM, SPEC.node, Power.ABSENT), None),
    "terminate a frozen one": (_frozen, lambda world: Desired(VM, SPEC.node, Power.ABSENT), None),
}


async def _prepared(journey: str) -> tuple[World, Desired]:
    prepare, wanted, _ = JOURNEYS[journey]
    world = World()
    await prepare(world)
    return world, wanted(world)


def _assert_arrived(world: World, journey: str) -> None:
    wanted = JOURNEYS[journey][2]
    assert world.phase() is wanted
    if wanted is Phase.RUNNING:
        (container,) = world.engine.containers.values()
        assert container.instance == SPEC.instance
        assert world.networks.networks == {VM: SPEC.network}
        assert container.id in world.networks.bindings[VM]
    else:
        assert world.networks.networks == {}
        assert world.networks.bindings == {}


async def _count_calls(journey: str) -> int:
    world, desired = await _prepared(journey)
    await world.runner.converge(desired)
    _assert_arrived(world, journey)
    return world.calls


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER], ids=["request lost", "reply lost"])
@pytest.mark.parametrize("journey", JOURNEYS)
async def test_a_fault_at_any_call_is_healed_by_the_next_pass(journey: str, fault: Fault) -> None:
    for call in range(1, await _count_calls(journey) + 1):
        world, desired = await _prepared(journey)
        world.fault_at = (call, fault)
        with pytest.raises(TransientError):
            await world.runner.converge(desired)
        await world.runner.converge(desired)
        _assert_arrived(world, journey)
        before = len(world.done)
        await world.runner.converge(desired)
        assert len(world.done) == before


@pytest.mark.parametrize("journey", JOURNEYS)
async def test_a_pass_may_be_cut_at_any_await(journey: str) -> None:
    for steps in range(60):
        world, desired = await _prepared(journey)
        task = asyncio.create_task(world.runner.converge(desired))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.done():
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await world.runner.converge(desired)
        _assert_arrived(world, journey)
    else:
        pytest.fail("the pass never ended")


async def test_a_restart_happens_once_whatever_is_lost() -> None:
    for call in range(1, await _count_calls("restart") + 1):
        world, desired = await _prepared("restart")
        world.fault_at = (call, Fault.AFTER)
        with pytest.raises(TransientError):
            await world.runner.converge(desired)
        await world.runner.converge(desired)
        await world.runner.converge(desired)
        assert world.engine.starts == 2  # the first one, and the one asked for


async def test_observing_finds_what_is_there() -> None:
    world = World()
    assert await world.sound.observe(running(SPEC)) == Observed(image_present=False)
    world.engine.images.add(IMAGE)
    assert await world.sound.observe(running(SPEC)) == Observed(image_present=True)
    await _deployed(world)
    seen = await world.sound.observe(running(SPEC))
    assert seen.container is not None
    assert seen.container.phase is Phase.RUNNING
    assert seen.network is not None
    assert seen.network.provides(SPEC.network)


async def test_links_that_somebody_set_down_are_raised_again() -> None:
    world = World()
    await _deployed(world)
    world.networks.links_down.add(VM)
    await world.sound.converge(running(SPEC))
    seen = await world.sound.observe(running(SPEC))
    assert seen.network is not None
    assert seen.network.provides(SPEC.network)
    assert world.engine.starts == 1


async def test_a_foreign_container_stays_as_it_is() -> None:
    world = World()
    theirs = world.engine.add_foreign(f"one-{VM}")
    before = world.engine.containers[theirs]
    with pytest.raises(TerminalError, match="taken"):
        await world.sound.converge(running(SPEC))
    with pytest.raises(TerminalError, match="taken"):
        await world.sound.converge(Desired(VM, SPEC.node, Power.STOPPED))
    await world.sound.converge(Desired(VM, SPEC.node, Power.ABSENT))
    assert world.engine.containers == {theirs: before}


async def test_a_command_that_cannot_run_fails_for_good_and_leaves_one_container() -> None:
    world = World()
    bad = replace(SPEC, container=replace(SPEC.container, command=(BROKEN_COMMAND,)))
    for _ in range(3):
        with pytest.raises(TerminalError, match=BROKEN_COMMAND):
            await world.sound.converge(running(bad))
    assert world.phase() is Phase.CREATED
    await world.sound.converge(running(SPEC))  # the command was corrected
    assert world.phase() is Phase.RUNNING
    (container,) = world.engine.containers.values()
    assert container.spec_digest == SPEC.container.digest()


async def test_a_container_that_vanishes_before_its_start_is_made_anew() -> None:
    world = World()

    def vanish(name: str) -> Fault:
        if name == "start" and world.engine.starts == 0 and world.calls == 0:
            world.calls += 1
            world.engine.containers.clear()
        return Fault.NONE

    runner = Runner(faulty(world.engine, vanish), world.networks, starts=1, on_action=lambda vm, action, seconds: None)
    with pytest.raises(TransientError, match="vanished"):
        await runner.converge(running(SPEC))
    await runner.converge(running(SPEC))
    assert world.phase() is Phase.RUNNING


class SlowEngine(FakeEngine):
    """Starts take a while; how many there were at the same time is counted."""

    def __init__(self) -> None:
        super().__init__(registry=[IMAGE])
        self.starting = 0
        self.most = 0

    async def start(self, container: ContainerId) -> None:
        self.starting += 1
        self.most = max(self.most, self.starting)
        for _ in range(5):
            await asyncio.sleep(0)
        await super().start(container)
        self.starting -= 1


async def test_no_more_start_at_the_same_time_than_allowed() -> None:
    engine = SlowEngine()
    runner = Runner(engine, FakeNetworks(), starts=2, on_action=lambda vm, action, seconds: None)
    await asyncio.gather(*(runner.converge(running(vm_spec(VmId(25100 + n)))) for n in range(6)))
    assert engine.most == 2
    assert [c.phase for c in engine.containers.values()] == [Phase.RUNNING] * 6


async def test_every_error_is_one_of_ours() -> None:
    world = World()
    world.engine.reachable = False
    with pytest.raises(OnedockError):
        await world.sound.converge(running(SPEC))
    world.engine.reachable, world.networks.reachable = True, False
    with pytest.raises(OnedockError):
        await world.sound.converge(running(SPEC))
    assert world.engine.containers == {}
