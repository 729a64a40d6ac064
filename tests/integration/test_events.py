"""The stream of a real engine's events: what is seen, what survives the engine's death, and what becomes a gap."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
import structlog
from tests.support import images
from tests.support.engine import PrivateEngine
from tests.support.waiting import eventually

from onedock.nodeside.docker import DockerEngine
from onedock.nodeside.events import EngineEvent, Gap, watch
from onedock.reconcilers.model import ContainerId, ContainerSpec, VmId

pytestmark = [pytest.mark.root, pytest.mark.engine]

VM = VmId(23300)
MANY = 64


@pytest.fixture
async def adapter(engine: PrivateEngine) -> AsyncIterator[DockerEngine]:
    async with DockerEngine(engine.url, runtime="runc") as adapter:
        yield adapter
    for container in engine.api("GET", "/containers/json?all=1"):
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")


class Seen:
    """What the watcher has yielded so far."""

    def __init__(self) -> None:
        self.items: list[EngineEvent | Gap] = []

    def events(self, action: str) -> list[EngineEvent]:
        return [item for item in self.items if isinstance(item, EngineEvent) and item.action == action]

    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    async def until(self, condition: Callable[["Seen"], bool], *, within: float = 10.0) -> None:
        await eventually(lambda: condition(self), within=within, what=f"{self.items[-3:]}")


@asynccontextmanager
async def watching(adapter: DockerEngine, *, since_ns: int = 0, ping_s: float = 2.0) -> AsyncIterator[Seen]:
    seen = Seen()

    async def take() -> None:
        async with aclosing(watch(adapter, since_ns=since_ns, ping_s=ping_s)) as events:
            async for event in events:
                seen.items.append(event)

    task = asyncio.create_task(take())
    try:
        await seen.until(lambda seen: bool(seen.gaps()))
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def start(adapter: DockerEngine, engine: PrivateEngine, vm: VmId = VM) -> ContainerId:
    spec = ContainerSpec(image=images.load(engine), hostname="events")
    container = await adapter.create(vm, instance="i", spec=spec)
    await adapter.start(container)
    return container


def pid_of(engine: PrivateEngine, container: ContainerId) -> int:
    pid: int = engine.api("GET", f"/containers/{container}/json")["State"]["Pid"]
    return pid


async def test_a_life_is_seen_in_order(adapter: DockerEngine, engine: PrivateEngine) -> None:
    async with watching(adapter) as seen:
        container = await start(adapter, engine)
        engine.api("POST", f"/containers/{container}/pause")
        engine.api("POST", f"/containers/{container}/unpause")
        await adapter.stop(container, grace_s=None)
        await adapter.remove(container)
        await seen.until(lambda seen: bool(seen.events("destroy")))
    events = [item for item in seen.items if isinstance(item, EngineEvent)]
    order = ["create", "start", "pause", "unpause", "kill", "die", "destroy"]
    # Engines may tell a pause twice: from the call itself, and from containerd when its word comes before the state.
    assert list(dict.fromkeys(event.action for event in events)) == order
    assert {(event.vm, event.container) for event in events} == {(VM, container)}
    assert [event.time_ns for event in events] == sorted(event.time_ns for event in events)
    assert seen.events("die")[0].exit_code == 137
    assert seen.events("kill")[0].signal == signal.SIGKILL
    assert len(seen.gaps()) == 1
    assert isinstance(seen.items[0], Gap)


async def test_what_is_not_ours_is_not_seen(adapter: DockerEngine, engine: PrivateEngine) -> None:
    async with watching(adapter) as seen:
        body = {"Image": images.load(engine), "Labels": {"org.onedock.vm": "mine"}}
        engine.api("POST", "/containers/create", body | {"HostConfig": {"NetworkMode": "none"}})
        engine.api("POST", "/containers/create", {"Image": body["Image"], "HostConfig": {"NetworkMode": "none"}})
        container = await start(adapter, engine)
        await seen.until(lambda seen: bool(seen.events("start")))
    assert {item.container for item in seen.items if isinstance(item, EngineEvent)} == {container}


async def test_a_long_label_does_not_end_the_stream(adapter: DockerEngine, engine: PrivateEngine) -> None:
    async with watching(adapter) as seen:
        labels = {"org.onedock.vm": "23399", "long": "x" * 500_000}
        body = {"Image": images.load(engine), "Labels": labels, "HostConfig": {"NetworkMode": "none"}}
        engine.api("POST", "/containers/create", body)
        await seen.until(lambda seen: bool(seen.events("create")))
    assert len(seen.gaps()) == 1


async def test_the_past_is_replayed(adapter: DockerEngine, engine: PrivateEngine) -> None:
    async with watching(adapter) as seen:
        container = await start(adapter, engine)
        await seen.until(lambda seen: bool(seen.events("start")))
    since = seen.events("start")[0].time_ns
    await adapter.stop(container, grace_s=None)
    async with watching(adapter, since_ns=since + 1) as later:
        await later.until(lambda seen: bool(seen.events("die")))
    assert not later.events("start")


@pytest.mark.parametrize("kill", [False, True])
async def test_it_goes_on_after_a_restart_of_the_engine(
    adapter: DockerEngine, engine: PrivateEngine, kill: bool
) -> None:
    container = await start(adapter, engine)
    async with watching(adapter) as seen:
        await asyncio.to_thread(engine.restart_dockerd, kill=kill)
        await seen.until(lambda seen: len(seen.gaps()) == 2)
        os.kill(pid_of(engine, container), signal.SIGKILL)
        await seen.until(lambda seen: bool(seen.events("die")))
    assert len(seen.gaps()) == 2


async def test_a_frozen_engine_is_noticed_and_used_again(adapter: DockerEngine, engine: PrivateEngine) -> None:
    container = await start(adapter, engine)
    pid = pid_of(engine, container)
    with structlog.testing.capture_logs() as logs:
        async with watching(adapter, ping_s=0.5) as seen:
            engine.freeze_dockerd()
            try:
                await eventually(lambda: any("interrupted" in entry["event"] for entry in logs))
            finally:
                engine.thaw_dockerd()
            await seen.until(lambda seen: len(seen.gaps()) >= 2)
            os.kill(pid, signal.SIGKILL)
            await seen.until(lambda seen: bool(seen.events("die")))
    assert "did not answer" in seen.gaps()[1].reason


async def test_all_of_many_that_die_at_once_are_seen(adapter: DockerEngine, engine: PrivateEngine) -> None:
    starting = asyncio.Semaphore(4)

    async def one(index: int) -> ContainerId:
        async with starting:
            return await start(adapter, engine, VmId(VM + index))

    containers = await asyncio.gather(*(one(index) for index in range(MANY)))
    pids = [pid_of(engine, container) for container in containers]
    async with watching(adapter) as seen:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await seen.until(lambda seen: len(seen.events("die")) >= MANY, within=30)
    assert {event.container for event in seen.events("die")} == set(containers)
    assert len(seen.gaps()) == 1
