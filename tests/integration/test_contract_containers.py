"""``ports.Containers`` as a contract: one suite for the fake and for a real engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import pytest
from tests.support import images
from tests.support.engine import PrivateEngine
from tests.support.fakes import BROKEN_COMMAND, FakeEngine
from tests.support.registry import PrivateRegistry

from onedock.nodeside.docker import DockerEngine
from onedock.reconcilers.errors import NotFoundError, TerminalError, TransientError
from onedock.reconcilers.model import ContainerId, ContainerSpec, Phase, VmId, container_name
from onedock.reconcilers.ports import Containers

VM = VmId(23001)
OTHER = VmId(23002)
INSTANCE = "23001-1700000000"
ABSENT = f"127.0.0.1:1/tests/absent@sha256:{'0' * 64}"


class Hand(Protocol):
    """What somebody may do to containers without ONEDock."""

    def exit(self, vm: VmId, *, exit_code: int = 0) -> None: ...
    def pause(self, vm: VmId) -> None: ...
    def add_foreign(self, name: str) -> ContainerId: ...


class EngineHand:
    """The same on a real engine, past the adapter."""

    def __init__(self, engine: PrivateEngine, image: str) -> None:
        self._engine = engine
        self._image = image

    def exit(self, vm: VmId, *, exit_code: int = 0) -> None:
        name = container_name(vm)
        body = {"Cmd": ["sh", "-c", f"echo {exit_code} > /tmp-exit"], "AttachStdout": True}
        execution = self._engine.api("POST", f"/containers/{name}/exec", body)["Id"]
        self._engine.api("POST", f"/exec/{execution}/start", {})
        self._engine.api("POST", f"/containers/{name}/wait")

    def pause(self, vm: VmId) -> None:
        self._engine.api("POST", f"/containers/{container_name(vm)}/pause")

    def add_foreign(self, name: str) -> ContainerId:
        body = {"Image": self._image, "HostConfig": {"NetworkMode": "none"}}
        return ContainerId(self._engine.api("POST", f"/containers/create?name={name}", body)["Id"])


@dataclass(frozen=True, slots=True)
class World:
    """One engine under test."""

    containers: Containers
    hand: Hand
    image: str
    """An image that can be pulled, and is not there."""

    def spec(self) -> ContainerSpec:
        return ContainerSpec(
            image=self.image,
            hostname="contract",
            cpu_quota_us=50_000,
            memory_bytes=64 * 1024 * 1024,
            pids=64,
        )


WAITS_FOR_EXIT = images.Image(
    cmd=("sh", "-c", "trap 'exit 0' TERM; while ! test -e /tmp-exit; do sleep 0.02; done; exit $(cat /tmp-exit)")
)


@pytest.fixture(scope="session")
def pushed(registry: PrivateRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    archive = tmp_path_factory.mktemp("images") / "contract.tar"
    images.write_docker_archive(archive, WAITS_FOR_EXIT)
    return registry.push(archive, "tests/contract")


@asynccontextmanager
async def fake_world() -> AsyncIterator[World]:
    image = f"127.0.0.1:5000/tests/contract@sha256:{'1' * 64}"
    fake = FakeEngine(registry=[image])
    yield World(fake, fake, image)


@asynccontextmanager
async def real_world(private: PrivateEngine, image: str) -> AsyncIterator[World]:
    async with DockerEngine(private.url, runtime="runc") as adapter:
        yield World(adapter, EngineHand(private, image), image)
        for container in private.api("GET", "/containers/json?all=1"):
            private.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        await adapter.remove_image(image)


@pytest.fixture(params=["fake", pytest.param("real", marks=[pytest.mark.root, pytest.mark.engine])])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "fake":
        opened = fake_world()
    else:
        opened = real_world(request.getfixturevalue("engine"), request.getfixturevalue("pushed"))
    async with opened as world:
        yield world


@pytest.fixture
async def created(world: World) -> ContainerId:
    await world.containers.pull(world.image)
    return await world.containers.create(VM, instance=INSTANCE, spec=world.spec())


@pytest.fixture
async def running(world: World, created: ContainerId) -> ContainerId:
    await world.containers.start(created)
    return created


async def phase(world: World) -> Phase | None:
    found = await world.containers.find(VM)
    return found.phase if found is not None else None


async def test_ping_tells_the_version(world: World) -> None:
    assert (await world.containers.ping())[0].isdigit()


class TestImages:
    async def test_pulled_once_it_is_present(self, world: World) -> None:
        assert not await world.containers.image_present(world.image)
        await world.containers.pull(world.image)
        await world.containers.pull(world.image)
        assert await world.containers.image_present(world.image)

    async def test_what_the_registry_does_not_have_is_terminal(self, world: World) -> None:
        missing = world.image.partition("@")[0] + f"@sha256:{'f' * 64}"
        with pytest.raises(TerminalError, match="the registry does not have the image"):
            await world.containers.pull(missing)

    async def test_only_digests_are_accepted(self, world: World) -> None:
        with pytest.raises(TerminalError, match="not pinned by digest"):
            await world.containers.image_present("127.0.0.1:5000/tests/contract:latest")

    async def test_removed_twice(self, world: World) -> None:
        await world.containers.pull(world.image)
        await world.containers.remove_image(world.image)
        await world.containers.remove_image(world.image)
        assert not await world.containers.image_present(world.image)

    async def test_in_use_it_stays(self, world: World, created: ContainerId) -> None:
        await world.containers.remove_image(world.image)
        assert await world.containers.image_present(world.image)


class TestCreate:
    async def test_what_was_made_is_found(self, world: World, created: ContainerId) -> None:
        found = await world.containers.find(VM)
        assert found is not None
        assert found.id == created
        assert found.name == "one-23001"
        assert (found.vm, found.instance) == (VM, INSTANCE)
        assert found.spec_digest == world.spec().digest()
        assert found.phase is Phase.CREATED
        assert not found.ever_started
        assert found.limits == world.spec().limits()
        assert await world.containers.find(OTHER) is None

    async def test_without_its_image_it_may_be_tried_again(self, world: World) -> None:
        with pytest.raises(TransientError, match="no longer in the engine"):
            await world.containers.create(VM, instance=INSTANCE, spec=world.spec())

    async def test_the_same_again_is_the_same(self, world: World, created: ContainerId) -> None:
        assert await world.containers.create(VM, instance=INSTANCE, spec=world.spec()) == created

    async def test_racing_creates_make_one(self, world: World) -> None:
        await world.containers.pull(world.image)
        creates = [world.containers.create(VM, instance=INSTANCE, spec=world.spec()) for _ in range(8)]
        results = await asyncio.gather(*creates, return_exceptions=True)
        made = {result for result in results if isinstance(result, str)}
        assert all(isinstance(result, (str, TransientError)) for result in results)
        assert made == {await world.containers.create(VM, instance=INSTANCE, spec=world.spec())}

    async def test_another_instance_is_not_adopted(self, world: World, created: ContainerId) -> None:
        with pytest.raises(TerminalError):
            await world.containers.create(VM, instance="23001-1", spec=world.spec())

    async def test_another_spec_is_not_adopted(self, world: World, created: ContainerId) -> None:
        with pytest.raises(TerminalError):
            await world.containers.create(VM, instance=INSTANCE, spec=replace(world.spec(), hostname="other"))

    async def test_a_foreign_container_is_not_adopted(self, world: World) -> None:
        await world.containers.pull(world.image)
        foreign = world.hand.add_foreign(container_name(VM))
        with pytest.raises(TerminalError, match="taken"):
            await world.containers.create(VM, instance=INSTANCE, spec=world.spec())
        found = await world.containers.find(VM)
        assert found is not None
        assert (found.id, found.vm) == (foreign, None)
        assert await world.containers.list_ours() == ()

    async def test_a_hostile_value_is_terminal(self, world: World) -> None:
        await world.containers.pull(world.image)
        spec = replace(world.spec(), search=("a\nnameserver 6.6.6.6",))
        with pytest.raises(TerminalError, match="search domain"):
            await world.containers.create(VM, instance=INSTANCE, spec=spec)

    async def test_ours_are_listed(self, world: World, created: ContainerId) -> None:
        world.hand.add_foreign("somebody")
        other = await world.containers.create(OTHER, instance="x", spec=world.spec())
        listed = {container.id: container for container in await world.containers.list_ours()}
        assert {container: listed[container].vm for container in listed} == {created: VM, other: OTHER}
        assert listed[created].instance == INSTANCE


class TestStart:
    async def test_started_twice_it_runs_once(self, world: World, running: ContainerId) -> None:
        first = await world.containers.find(VM)
        await world.containers.start(running)
        again = await world.containers.find(VM)
        assert first is not None
        assert first.phase is Phase.RUNNING
        assert first.pid > 0
        assert first.ever_started
        assert again == first

    async def test_a_missing_command_is_terminal(self, world: World) -> None:
        await world.containers.pull(world.image)
        spec = replace(world.spec(), command=(BROKEN_COMMAND, "--option"))
        container = await world.containers.create(VM, instance=INSTANCE, spec=spec)
        with pytest.raises(TerminalError, match='the command "/no/such/program" is not in the image'):
            await world.containers.start(container)
        found = await world.containers.find(VM)
        assert found is not None
        assert not found.ever_started

    async def test_gone_is_not_found(self, world: World, created: ContainerId) -> None:
        await world.containers.remove(created)
        with pytest.raises(NotFoundError):
            await world.containers.start(created)

    async def test_a_paused_one_wants_a_new_look(self, world: World, running: ContainerId) -> None:
        world.hand.pause(VM)
        with pytest.raises(TransientError, match="paused"):
            await world.containers.start(running)


class TestStop:
    @pytest.mark.parametrize("grace_s", [None, 0.0, 5.0])
    async def test_stopped_twice_it_is_down(self, world: World, running: ContainerId, grace_s: float | None) -> None:
        await world.containers.stop(running, grace_s=grace_s)
        await world.containers.stop(running, grace_s=grace_s)
        found = await world.containers.find(VM)
        assert found is not None
        assert (found.phase, found.pid) == (Phase.EXITED, 0)
        assert found.ever_started

    async def test_it_starts_again_as_a_new_run(self, world: World, running: ContainerId) -> None:
        first = await world.containers.find(VM)
        await world.containers.stop(running, grace_s=None)
        await world.containers.start(running)
        second = await world.containers.find(VM)
        assert first is not None
        assert second is not None
        assert first.started_at < second.started_at

    @pytest.mark.parametrize("grace_s", [None, 1.0])
    async def test_never_started_or_gone_is_success(
        self, world: World, created: ContainerId, grace_s: float | None
    ) -> None:
        await world.containers.stop(created, grace_s=grace_s)
        await world.containers.remove(created)
        await world.containers.stop(created, grace_s=grace_s)
        assert await phase(world) is None

    @pytest.mark.parametrize("grace_s", [None, 1.0])
    async def test_a_paused_one_stops(self, world: World, running: ContainerId, grace_s: float | None) -> None:
        world.hand.pause(VM)
        await world.containers.stop(running, grace_s=grace_s)
        assert await phase(world) is Phase.EXITED

    async def test_an_exit_code_is_told(self, world: World, running: ContainerId) -> None:
        world.hand.exit(VM, exit_code=7)
        found = await world.containers.find(VM)
        assert found is not None
        assert (found.phase, found.exit_code) == (Phase.EXITED, 7)


class TestUnpause:
    async def test_thawed_twice_it_runs(self, world: World, running: ContainerId) -> None:
        world.hand.pause(VM)
        assert await phase(world) is Phase.PAUSED
        await world.containers.unpause(running)
        await world.containers.unpause(running)
        assert await phase(world) is Phase.RUNNING

    async def test_stopped_or_gone_wants_a_new_look(self, world: World, running: ContainerId) -> None:
        await world.containers.stop(running, grace_s=None)
        with pytest.raises(TransientError):
            await world.containers.unpause(running)
        await world.containers.remove(running)
        with pytest.raises(TransientError):
            await world.containers.unpause(running)


class TestLimits:
    @pytest.mark.parametrize(
        ("shares", "quota", "memory", "pids"),
        [(2048, 100_000, 128 << 20, 100), (2, 1000, 32 << 20, 16), (1024, 0, 0, 0)],
    )
    async def test_changed_while_it_runs(
        self, world: World, running: ContainerId, shares: int, quota: int, memory: int, pids: int
    ) -> None:
        spec = replace(world.spec(), cpu_shares=shares, cpu_quota_us=quota, memory_bytes=memory, pids=pids)
        await world.containers.update_limits(running, spec)
        found = await world.containers.find(VM)
        assert found is not None
        assert found.limits == (shares, quota, memory, pids)
        assert found.phase is Phase.RUNNING

    async def test_gone_is_not_found(self, world: World, created: ContainerId) -> None:
        await world.containers.remove(created)
        with pytest.raises(NotFoundError):
            await world.containers.update_limits(created, world.spec())


class TestRemove:
    @pytest.mark.parametrize("state", ["created", "running", "paused", "exited"])
    async def test_removed_twice_in_any_state(self, world: World, created: ContainerId, state: str) -> None:
        if state != "created":
            await world.containers.start(created)
        if state == "paused":
            world.hand.pause(VM)
        if state == "exited":
            world.hand.exit(VM)
        await world.containers.remove(created)
        await world.containers.remove(created)
        assert await world.containers.find(VM) is None


def test_the_real_engine_has_nothing_of_ours_afterwards(engine: PrivateEngine) -> None:
    assert engine.api("GET", "/containers/json?all=1") == []
