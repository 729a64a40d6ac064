"""A cloud whose processes can be killed at named points, and what must be true of it afterwards."""

import asyncio
import contextlib
import http.client
import itertools
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import echo, processes
from tests.support.cloud import Cloud
from tests.support.crash_points import CrashPoints, DriverProxy, HttpProxy, Point
from tests.support.engine import PrivateEngine
from tests.support.images import Image
from tests.support.registry import PrivateRegistry
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState

_COMMAND = ("sh", "-c", f"trap 'exit 0' TERM; echo up >> /boots; {echo.SERVE}")
_TO_RUNNING = ["PROLOG", "BOOT", "RUNNING"]
_TO_DONE = ["SHUTDOWN", "EPILOG", "DONE"]


class Victim(StrEnum):
    """Whom SIGKILL hits."""

    CONTROLLER = "controller"
    DRIVER = "driver"
    AGENT = "agent"
    DOCKERD = "dockerd"
    OPENNEBULA = "opennebula"


@dataclass(frozen=True, slots=True)
class Crash:
    """One victim at one point."""

    point: Point
    victim: Victim

    def __str__(self) -> str:
        words = re.sub(r"[^A-Za-z]+", "-", self.point.name).strip("-")
        return f"{words}-{self.point.moment}-{self.victim}"


class Scene:
    """A cloud with a proxy on every socket between its processes."""

    def __init__(self, cloud: Cloud, points: CrashPoints) -> None:
        self.cloud = cloud
        self.points = points
        self.image = -1
        self.spoiled = False
        """Whether a test has left something in it."""
        self._images = itertools.count()
        self._known: set[str] = set()
        self._ended: list[int] = []
        self._saw_oned_die: set[int] = set()
        """VMs that lived when oned was killed. Between its log and its database, it says a step of theirs twice."""

    async def new_image(self) -> int:
        """An image that the engine has not pulled yet."""
        number = next(self._images)
        image = Image(cmd=_COMMAND, env=(f"NUMBER={number}", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"))
        return await self.cloud.image(f"image-{number}", image)

    def _containers(self) -> set[str]:
        """Ids of all containers, ours or not."""
        return {container["Id"] for container in self.cloud.engine.api("GET", "/containers/json?all=1")}

    def _containers_on_disk(self) -> set[str]:
        """The same while dockerd is dead. One that was just being made has a directory and no configuration."""
        return {path.parent.name for path in (self.cloud.engine.data_root / "containers").glob("*/config.v2.json")}

    def kill(self, victim: Victim) -> None:
        """SIGKILL; returns when the victim is dead."""
        match victim:
            case Victim.CONTROLLER:
                self.cloud.controller.kill()
            case Victim.DRIVER:
                processes.kill_now(self.cloud.one.driver_pid("onedock-vmm"))
            case Victim.AGENT:
                self.cloud.agent.kill()
            case Victim.DOCKERD:
                self.cloud.engine.kill_dockerd()
            case Victim.OPENNEBULA:
                processes.kill_now(self.cloud.one.pid)
                logged = {int(log.stem) for log in self.cloud.one.directory.glob("log/[0-9]*.log")}
                self._saw_oned_die |= logged - set(self._ended)
        self._known = self._containers_on_disk()

    async def revive(self, victim: Victim) -> None:
        """Start it again, as systemd would; oned does so with its driver."""
        match victim:
            case Victim.CONTROLLER:
                await asyncio.to_thread(self.cloud.controller.start)
            case Victim.DRIVER:
                pass
            case Victim.AGENT:
                await asyncio.to_thread(self.cloud.agent.start)
            case Victim.DOCKERD:
                await asyncio.to_thread(self.cloud.engine.start_dockerd)
            case Victim.OPENNEBULA:
                await self.cloud.one.kill9()
                await self.cloud.one.start()

    async def ask_to_end(self, vm: int) -> None:
        """``onevm terminate``. An oned that dies of what follows from it may owe the user the answer."""
        try:
            await self.cloud.action(vm, "terminate")
        except (OSError, http.client.HTTPException):
            if vm not in self._saw_oned_die:
                raise

    @contextlib.asynccontextmanager
    async def crash(self, crash: Crash) -> AsyncIterator[None]:
        """In the body something is asked of OpenNebula; after it the crash has happened and is repaired."""
        trap = self.points.arm(crash.point, lambda: self.kill(crash.victim))
        try:
            yield
            async with asyncio.timeout(20):
                await trap.sprung.wait()
        except TimeoutError:
            raise AssertionError(f"never reached: {crash}; there were {list(self.points.passed)}") from None
        finally:
            self.points.disarm()
            if trap.sprung.is_set():
                await self.revive(crash.victim)

    async def deployed(self, vm: int) -> None:
        """The VM comes to run; once, in one container."""
        with self._telling_story(vm):
            await self.cloud.reaches(vm, LcmState.RUNNING, within=40)
            await self.cloud.settled()
            container = self.cloud.container(vm)
            assert container is not None
            assert container["State"]["Running"]
            assert self._containers() == {container["Id"]}
            assert self._known <= {container["Id"]}, "the container that existed must be used"
            # Its first process may not have come to say so yet.
            await eventually(lambda: self._boots(vm) == "up\n", what="it has started once")
            document = await self.cloud.one.vm(vm)
            assert document.findtext("DEPLOY_ID") == f"one-{vm}"
            self._one_answer_each(vm, _TO_RUNNING)

    async def ended(self, vm: int) -> None:
        """The VM comes to its end and nothing is left of it."""
        with self._telling_story(vm):
            await self.cloud.reaches(vm, VmState.DONE, within=40)
            await eventually(lambda: self._nothing_is_left(vm), what=f"nothing is left of VM {vm}")
            await self.cloud.settled()
            self._one_answer_each(vm, _TO_RUNNING + _TO_DONE)
        self._ended.append(vm)
        self.spoiled = False

    @contextlib.contextmanager
    def _telling_story(self, vm: int) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            one = self.cloud.one
            logs = [one.vm_log(vm), one.oned_log, one.directory / "log" / "monitor.log"]
            ends = [f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs if log.exists()]
            error.add_note("\n".join([*ends, self.cloud.story(), f"--- passed\n{list(self.points.passed)}"]))
            raise

    def _boots(self, vm: int) -> str:
        return self.cloud.run_in(vm, "/bin/busybox", "sh", "-c", "cat /boots || true")

    def _nothing_is_left(self, vm: int) -> bool:
        left = {
            *self._containers(),
            *(name for name in self.cloud.namespaces() if name == f"one-{vm}"),
            *(link for link in self.cloud.links() if link.startswith("one-")),
            *map(str, self.cloud.engine.runtime_dir.iterdir()),
            *map(str, (self.cloud.directory / "agent").glob("*.json")),
            *(str(shown) for shown in self.cloud.view("/vms") if shown["vm"] == vm),
        }
        assert not left, left
        return True

    def _one_answer_each(self, vm: int, states: list[str]) -> None:
        """Each answer that OpenNebula takes is a step in the VM's log, and so is each that it cannot use."""
        text = self.cloud.one.vm_log(vm).read_text()
        assert "Wrong state" not in text, text
        assert "Ignored:" not in text, text
        said = re.findall(r"New (?:LCM )?state is (\w+)", text)
        if vm in self._saw_oned_die:
            said = [state for state, _ in itertools.groupby(said)]
        assert said == states, text

    def no_late_answers(self) -> None:
        """What came for a VM after its end was looked at."""
        for vm in self._ended:
            self._one_answer_each(vm, _TO_RUNNING + _TO_DONE)

    async def terminate(self, vm: int) -> None:
        """Terminate it without any crash."""
        self._known = set()
        await self.cloud.action(vm, "terminate")
        await self.ended(vm)

    @contextlib.asynccontextmanager
    async def conversation(self, vm: int) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
        """A TCP connection into the VM, once it listens."""
        async with echo.conversation(self.cloud, await echo.listening(self.cloud, vm)) as say:
            yield say


@contextlib.asynccontextmanager
async def _crash_scene(engine: PrivateEngine, registry: PrivateRegistry) -> AsyncIterator[Scene]:
    points = CrashPoints()
    with tempfile.TemporaryDirectory(prefix=f"{processes.RUN}-points-", dir="/var/tmp") as name:
        directory = Path(name)
        cloud = Cloud(
            engine,
            registry,
            failure_after_s=30.0,  # two crashes in a row are no failure of the node
            engine_url=f"unix://{directory}/engine.sock",
            agent_socket=directory / "agent.sock",
            driver_socket=directory / "driver.sock",
        )
        async with (
            HttpProxy(directory / "engine.sock", engine.socket, points),
            HttpProxy(directory / "agent.sock", cloud.directory / "agent.sock", points),
            DriverProxy(directory / "driver.sock", cloud.driver_socket, points),
            cloud,
        ):
            scene = Scene(cloud, points)
            scene.image = await scene.new_image()
            yield scene
            scene.no_late_answers()


class Stage:
    """One scene for many tests; a new one after a test that has failed. ``async with Stage(…)``."""

    def __init__(self, engine: PrivateEngine, registry: PrivateRegistry) -> None:
        self._engine, self._registry = engine, registry
        self._stack = contextlib.AsyncExitStack()
        self._scene: Scene | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def scene(self) -> Scene:
        """A clean scene; it counts as spoiled until a VM has ended well in it."""
        if self._scene is None or self._scene.spoiled:
            await self._stack.aclose()
            self._scene = await self._stack.enter_async_context(_crash_scene(self._engine, self._registry))
        self._scene.spoiled = True
        return self._scene
