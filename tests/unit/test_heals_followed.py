"""What agents put back reaches the log of each VM once, whoever is started again in between."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest
import structlog
from tests.support.waiting import eventually

from onedock.config.settings import NodeSettings
from onedock.controller.heals import follow_heals
from onedock.controller.journal import Journal
from onedock.controller.journal_rows import HEALED, LogLine
from onedock.controller.metrics import Metrics
from onedock.controller.nodes import Node
from onedock.controller.story import Story
from onedock.nodeside.agent.healing.record import Record
from onedock.nodeside.docker import DockerEngine
from onedock.nodeside.heals import Cause, Heals
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import NodeName, VmId
from onedock.reconcilers.runner import Runner

VM, OTHER = VmId(42), VmId(43)
NODE = NodeName("node1")


class Agent:
    """The record of a real one, without its socket."""

    def __init__(self) -> None:
        self.record = Record()
        self.up = True
        self.asked = Counter[int]()

    def restart(self) -> None:
        self.record.end()
        self.record = Record()

    async def heals(self, *, since: int = 0, wait_s: int = 0) -> Heals:
        self.asked[wait_s] += 1
        if not self.up:
            raise TransientError("it is away")
        return await self.record.news(since, wait_s)

    def heal(self, vm: VmId, *steps: str) -> None:
        self.record.add(vm, Cause.LINK, steps or ("raise nic eth0",), 0.2)


class Controller:
    """The parts of one that are concerned."""

    def __init__(self, journal: Journal, agent: Agent) -> None:
        self.journal = journal
        self.metrics = Metrics()
        settings = NodeSettings()
        parts = (cast("DockerEngine", None), cast("AgentClient", agent), cast("Runner", None))
        self.node = Node(NODE, settings, *parts, "onedock")
        self.returns = 0

    def returned(self) -> None:
        self.returns += 1

    async def logged(self, vm: VmId | None = None) -> list[LogLine]:
        return [line for line in await self.journal.read_log(vm) if line.event == HEALED]

    async def has(self, count: int) -> bool:
        return len(await self.logged()) >= count


@asynccontextmanager
async def controller(directory: Path, agent: Agent) -> AsyncIterator[Controller]:
    journal = await Journal.open(directory / "journal.sqlite")
    story = Story()
    structlog.configure(processors=[story.processor, structlog.processors.JSONRenderer()])
    made = Controller(journal, agent)
    following = asyncio.ensure_future(follow_heals(made.node, journal, made.metrics, returned=made.returned))
    writing = asyncio.ensure_future(story.run(journal))
    try:
        yield made
    finally:
        for task in (following, writing):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        structlog.reset_defaults()
        await journal.close()


@pytest.fixture
async def agent() -> Agent:
    return Agent()


async def test_each_is_told_as_it_happens(tmp_path: Path, agent: Agent) -> None:
    agent.heal(VM)
    async with controller(tmp_path, agent) as running:
        await eventually(lambda: running.has(1))
        agent.heal(OTHER, "plug in one-43-0 br0", "raise nic eth0")
        agent.heal(VM)
        await eventually(lambda: running.has(3))
        [line] = await running.logged(OTHER)
        assert line.fields["what"] == "plug in one-43-0 br0; raise nic eth0"
        assert (line.fields["node"], line.fields["cause"], line.fields["seconds"]) == (NODE, "link", 0.2)
        told = await running.journal.vm_heals(VM)
        assert told.count == 2
        assert told.latest is not None
        assert told.latest.fields["heal"][1] == 3
        assert (await running.journal.vm_heals(VmId(44))).latest is None
        assert running.metrics.registry.get_sample_value("onedock_heals_total", {"node": NODE, "cause": "link"}) == 3
        assert running.node.heals == {Cause.LINK: 3}
        assert running.node.last_heal is not None
        assert sum(agent.asked.values()) <= 4, "nothing is polled"


async def test_none_is_told_twice_by_a_controller_that_was_started_again(tmp_path: Path, agent: Agent) -> None:
    async with controller(tmp_path, agent) as first:
        agent.heal(VM)
        await eventually(lambda: first.has(1))
    agent.heal(OTHER)
    async with controller(tmp_path, agent) as second:
        await eventually(lambda: second.has(2))
        assert [line.vm for line in await second.logged()] == [VM, OTHER]


async def test_an_agent_that_was_started_again_counts_anew(tmp_path: Path, agent: Agent) -> None:
    async with controller(tmp_path, agent) as running:
        agent.heal(VM)
        agent.heal(VM)
        await eventually(lambda: running.has(2))
        agent.restart()
        agent.heal(OTHER)
        await eventually(lambda: running.has(3))
        assert [line.fields["heal"][1] for line in await running.logged()] == [1, 2, 1]


async def test_an_agent_that_is_away_tells_when_it_is_back(tmp_path: Path, agent: Agent) -> None:
    agent.up = False
    async with controller(tmp_path, agent) as running:
        await eventually(lambda: agent.asked[0])
        agent.heal(VM)
        agent.up = True
        await eventually(lambda: running.has(1))
        assert running.returns == 1


async def test_many_steps_are_not_all_told(tmp_path: Path, agent: Agent) -> None:
    async with controller(tmp_path, agent) as running:
        agent.heal(VM, *(f"add address eth0 10.0.0.{number}/24" for number in range(20)))
        await eventually(lambda: running.has(1))
        [line] = await running.logged()
        assert line.fields["what"].endswith("10.0.0.11/24; 8 more")


async def test_who_waits_for_news_is_answered_in_time_or_at_the_end(agent: Agent) -> None:
    assert (await agent.record.news(0, 0)).recent == ()
    assert (await agent.record.news(0, 0.05)).recent == ()
    waiting = asyncio.ensure_future(agent.record.news(0, 30))
    await asyncio.sleep(0)
    agent.record.end()
    assert (await waiting).recent == ()
    agent.heal(VM)
    assert [one.vm for one in (await agent.record.news(0, 30)).recent] == [VM]
