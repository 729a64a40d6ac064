"""Upgrade and way back with VMs under load: no container restarted, no NIC touched, no request lost.

The other release is the previous state of the product in this repository (``tests.support.releases`` says which); its
controller and agent run on the same journal, the same node and the same settings. Drivers and runtime wrapper stay.
"""

import asyncio
import contextlib
import json
import re
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import processes, releases
from tests.support.cloud import BRIDGE, Cloud, Daemon
from tests.support.crash_points import CrashPoints
from tests.support.crash_scene import Scene
from tests.support.engine import PrivateEngine
from tests.support.registry import PrivateRegistry
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState

pytestmark = [pytest.mark.root, pytest.mark.engine]

_TO_RUNNING = ["PROLOG", "BOOT", "RUNNING"]
_TO_DONE = ["SHUTDOWN", "EPILOG", "DONE"]
_OFF_AND_ON = ["SHUTDOWN_POWEROFF", "POWEROFF", "BOOT_POWEROFF", "RUNNING"]


@pytest.fixture
def previous() -> Iterator[Path]:
    """Source directory of the previous release."""
    try:
        commit = releases.previous_commit()
    except releases.NoHistoryError as error:
        pytest.skip(f"no previous release: {error}")
    with tempfile.TemporaryDirectory(prefix=f"{processes.RUN}-previous-", dir="/var/tmp") as directory:
        yield releases.unpack(commit, Path(directory))


class Load:
    """What users do all the while, each in rounds: VMs come and go, and one is powered off and resumed."""

    def __init__(self, cloud: Cloud, image: int) -> None:
        self._cloud = cloud
        self._image = image
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.rounds = [0, 0, 0]
        """Rounds begun, by user."""
        self.came_and_went: list[int] = []
        self.off_and_on = -1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Begins it; after the body every round is brought to its end, and a failure of one is raised."""
        self.off_and_on = await self._cloud.running_vm(self._image, name="off-and-on", memory=16)
        users = (self._come_and_go, self._come_and_go, self._off_and_on)
        async with asyncio.TaskGroup() as group:
            self._tasks = [group.create_task(self._repeat(user, round_)) for user, round_ in enumerate(users)]
            yield
            self._stopping = True

    async def goes_on(self) -> None:
        """Wait until every user has begun two more rounds: at least one was asked and answered as things are now."""
        wanted = [count + 2 for count in self.rounds]
        await eventually(
            lambda: all(now >= then for now, then in zip(self.rounds, wanted, strict=True)),
            within=30,
            what="every user goes on",
        )

    async def _repeat(self, user: int, round_: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping:
            self.rounds[user] += 1
            await round_()

    async def _come_and_go(self) -> None:
        vm = await self._cloud.vm(self._image, name="short", memory=16)
        self.came_and_went.append(vm)
        await self._cloud.reaches(vm, LcmState.RUNNING)
        await self._cloud.action(vm, "terminate")
        await self._cloud.reaches(vm, VmState.DONE)

    async def _off_and_on(self) -> None:
        await self._cloud.action(self.off_and_on, "poweroff")
        await self._cloud.reaches(self.off_and_on, VmState.POWEROFF)
        await self._cloud.action(self.off_and_on, "resume")
        await self._cloud.reaches(self.off_and_on, LcmState.RUNNING)


@contextlib.asynccontextmanager
async def talking(say: Callable[[str], Awaitable[None]]) -> AsyncIterator[Callable[[], int]]:
    """Talks on one connection all the while; the value tells how many words came back. A break is raised."""
    words = 0

    async def talk() -> None:
        nonlocal words
        while True:
            await say(f"word-{words}")
            words += 1
            await asyncio.sleep(0.05)  # a person's pace, not a wait for anything

    async with asyncio.TaskGroup() as group:
        task = group.create_task(talk())
        yield lambda: words
        task.cancel()


@contextlib.contextmanager
def link_messages(cloud: Cloud) -> Iterator[Path]:
    """A file of what the kernel tells about the node's links while the body runs: every change, however short."""
    path = cloud.directory / "links.txt"
    with path.open("wb") as file:
        argv = ["nsenter", f"--net=/run/netns/{cloud.engine.netns}", "ip", "-o", "-ts", "monitor", "link"]
        monitor = subprocess.Popen(argv, stdout=file)
        try:
            yield path
        finally:
            processes.end(monitor)


def identity(cloud: Cloud, vm: int) -> dict[str, Any]:
    """What changes when a VM's container is restarted, or its NIC is plugged again."""
    container = cloud.container(vm)
    assert container is not None
    shown = subprocess.run(["ip", "-n", f"one-{vm}", "-j", "address"], check=True, capture_output=True, text=True)
    return {
        "container": container["Id"],
        "process": container["State"]["Pid"],
        "started": container["State"]["StartedAt"],
        "namespace": Path(f"/run/netns/one-{vm}").stat().st_ino,
        "links": {
            link["ifname"]: (link["ifindex"], link.get("link_index"), link["address"], link["operstate"])
            for link in json.loads(shown.stdout)
        },
        "addresses": {
            (link["ifname"], address["local"]) for link in json.loads(shown.stdout) for address in link["addr_info"]
        },
    }


def ask_journal(cloud: Cloud, question: str) -> list[tuple[Any, ...]]:
    """Rows of the controller's journal."""
    path = cloud.directory / "controller" / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
        return journal.execute(question).fetchall()


def steps_of(cloud: Cloud, vm: int) -> list[str]:
    """The states that OpenNebula led a VM through; each is one answer that it took, and it refused none."""
    text = cloud.one.vm_log(vm).read_text()
    assert "Wrong state" not in text, text
    assert "Ignored:" not in text, text
    return re.findall(r"New (?:LCM )?state is (\w+)", text)


async def change(source: Path | None, *daemons: Daemon) -> None:
    """End processes as systemd does, and start them again from another release."""
    for daemon in daemons:
        await asyncio.to_thread(daemon.stop)
    for daemon in daemons:
        daemon.source = source
        await asyncio.to_thread(daemon.start)


async def test_upgrade_and_way_back_under_load(
    engine: PrivateEngine, registry: PrivateRegistry, previous: Path
) -> None:
    cloud = Cloud(engine, registry, failure_after_s=30.0)  # a release that is installed is no failure of the node
    cloud.controller.source = cloud.agent.source = previous
    async with asyncio.timeout(150), cloud:
        # By default the kernel itself tells of each port once more when the bridge's delay of 15 s is over.
        engine.run_in_netns(["ip", "link", "set", BRIDGE, "type", "bridge", "forward_delay", "0"])
        scene = Scene(cloud, CrashPoints())
        image = await scene.new_image()
        kept = [await cloud.running_vm(image, name=f"kept-{number}") for number in range(3)]
        before = {vm: identity(cloud, vm) for vm in kept}
        schema = ask_journal(cloud, "PRAGMA user_version")
        load = Load(cloud, image)

        async with scene.conversation(kept[0]) as say, talking(say) as words:
            with link_messages(cloud) as messages:
                async with load.running():
                    await load.goes_on()
                    for source, daemons in (
                        (None, (cloud.agent, cloud.controller)),
                        (previous, (cloud.agent, cloud.controller)),
                        (None, (cloud.agent,)),  # the order of docs/operations.md: releases meet for a while
                        (None, (cloud.controller,)),
                        (previous, (cloud.controller,)),
                    ):
                        heard = words()
                        await change(source, *daemons)
                        await load.goes_on()
                        assert {vm: identity(cloud, vm) for vm in kept} == before
                        assert words() > heard
                        assert ask_journal(cloud, "PRAGMA user_version") == schema
                await cloud.settled()
                told = messages.read_text()

        for vm in kept:
            assert [line for line in told.splitlines() if f"one-{vm}-" in line] == []
            assert steps_of(cloud, vm) == _TO_RUNNING
        assert f"one-{load.came_and_went[-1]}-" in told, "the kernel was listened to"
        for vm in load.came_and_went:
            assert steps_of(cloud, vm) == _TO_RUNNING + _TO_DONE
        assert steps_of(cloud, load.off_and_on) == _TO_RUNNING + _OFF_AND_ON * load.rounds[2]
        assert ask_journal(cloud, "SELECT id, action FROM intents WHERE state = 'open'") == []
        assert ask_journal(cloud, "SELECT intent_id, info FROM outcomes WHERE NOT ok OR settled IS NULL") == []
        assert cloud.namespaces() >= {f"one-{vm}" for vm in kept}
        assert not cloud.namespaces() & {f"one-{vm}" for vm in load.came_and_went}
