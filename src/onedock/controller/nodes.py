"""The nodes: one engine and one agent each, whether they answer, and the stream of the engine's events.

Called by the worker (runner of a node), by resync (full lists) and by monitoring (health). An event only makes a
key due; nothing here decides anything about a VM.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from onedock.config.settings import NodeSettings, Settings
from onedock.controller.tasks import keep_running
from onedock.nodeside.docker import DockerEngine
from onedock.nodeside.events import EngineEvent, Gap, watch
from onedock.nodeside.heals import Cause, Healed
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.actions import Action
from onedock.reconcilers.errors import OnedockError, TerminalError
from onedock.reconcilers.model import NodeName, VmId
from onedock.reconcilers.runner import Runner

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Health:
    """Whether one side of a node answers, since when, and what it last said."""

    ok: bool = True
    since: float = field(default_factory=time.time)
    error: str = ""

    def note(self, error: str) -> bool:
        """Take over the result of a call ('' is good); returns whether the truth changed."""
        changed = self.ok != (not error)
        if changed:
            self.ok, self.since = not error, time.time()
        self.error = error
        return changed


@dataclass(slots=True)
class Node:
    """One node and how it is reached."""

    name: NodeName
    settings: NodeSettings
    engine: DockerEngine
    agent: AgentClient
    runner: Runner
    runtime: str
    """Name of the OCI runtime that containers of VMs get."""
    engine_health: Health = field(default_factory=Health)
    agent_health: Health = field(default_factory=Health)
    engine_version: str = ""
    warning: str = ""
    """What is unsafe about the engine's configuration; it works all the same."""
    host_id: int = -1
    """Id of the host in OpenNebula; -1 until oned or a START_MONITOR told it."""
    listed_at: float = 0.0
    """Unix time of the last full list of the engine that was compared with oned; 0: never, or not since a gap."""
    bytes_pulled: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of images pulled now or before: bytes so far and in all, as the engine last said."""
    heals: Mapping[Cause, int] = field(default_factory=dict)
    """Networks that its agent put back since the agent's start, by cause."""
    last_heal: Healed | None = None
    _admitted: bool = False

    @property
    def error(self) -> str:
        """Why the node cannot be used; empty when it can."""
        return self.engine_health.error or self.agent_health.error

    @property
    def pulls(self) -> dict[str, tuple[int, int]]:
        """The images that are being pulled now: bytes so far and in all, both 0 before the engine said anything."""
        return {image: self.bytes_pulled.get(image, (0, 0)) for image in sorted(self.engine.pulling)}

    def note_progress(self, image: str, done: int, total: int) -> None:
        """Take over how far a pull is."""
        self.bytes_pulled = {i: b for i, b in self.bytes_pulled.items() if i in self.engine.pulling}
        self.bytes_pulled[image] = (done, total)

    @property
    def failing_since(self) -> float | None:
        """Since when the node cannot be used; None when it can."""
        bad = [health.since for health in (self.engine_health, self.agent_health) if not health.ok]
        return min(bad) if bad else None

    async def _admit(self) -> str:
        """Look at an engine that was away: its configuration may be another. Returns why it cannot be used."""
        info = await self.engine.info()
        if self.runtime not in info.runtimes:
            return (
                f"the engine has no runtime {self.runtime!r}: register onedock-runtime in daemon.json, then SIGHUP it"
            )
        self._admitted = True
        self.warning = "" if info.live_restore else "live-restore is off: VMs end with dockerd; set it in daemon.json"
        if self.warning:
            log.warning("engine is not safe for VMs", node=self.name, reason=self.warning)
        return ""

    async def check(self) -> None:
        """Ask engine and agent for a sign of life."""
        try:
            self.engine_version = await self.engine.ping()
            engine_error = "" if self.engine_health.ok and self._admitted else await self._admit()
        except OnedockError as error:
            engine_error = str(error)
        try:
            await self.agent.host_facts()
            agent_error = ""
        except OnedockError as error:
            agent_error = str(error)
        for side, health, problem in (
            ("engine", self.engine_health, engine_error),
            ("agent", self.agent_health, agent_error),
        ):
            if health.note(problem):
                level = log.warning if problem else log.info
                level("node side changed", node=self.name, side=side, ok=not problem, error=problem)


class Nodes:
    """All nodes in use. A node is opened when a VM or a host of OpenNebula first names it.

    Args:
        on_event: called with every engine event, from the reader of the stream: it must not wait.
        on_gap: called with the node whenever events may have been missed.
        on_action: told of each action done and its seconds, for log and metrics.
        on_call: told of each call to an engine: node, ``ok``, ``refused`` or ``failed``, seconds.
        follow: runs for ever for each node that is opened.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_event: Callable[[NodeName, EngineEvent], None],
        on_gap: Callable[[NodeName], None],
        on_action: Callable[[VmId, Action, float], None],
        on_call: Callable[[NodeName, str, float], None],
        follow: Callable[[Node], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._follow = follow
        self._on_call = on_call
        self._on_event = on_event
        self._on_gap = on_gap
        self._on_action = on_action
        self._nodes: dict[NodeName, Node] = {}
        self._stack = AsyncExitStack()
        self._watchers: list[asyncio.Task[None]] = []
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Nothing is opened yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching, close every engine and agent."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._stack.aclose()

    def __iter__(self) -> Iterator[Node]:
        return iter(tuple(self._nodes.values()))

    def find(self, name: NodeName) -> Node | None:
        """The node, if it is open."""
        return self._nodes.get(name)

    async def get(self, name: NodeName) -> Node:
        """The node of a host.

        Raises:
            TerminalError: no settings name it.
        """
        async with self._opening:
            if name not in self._nodes:
                self._nodes[name] = await self._open(name)
            return self._nodes[name]

    async def _open(self, name: NodeName) -> Node:
        settings = self._settings.node(name)
        if settings is None:
            raise TerminalError(f"host {name!r} is no node of ONEDock; add a [nodes.{name!r}] table to onedock.toml")
        registry = self._settings.registry
        engine = await self._stack.enter_async_context(
            DockerEngine(
                settings.engine,
                runtime=self._settings.containers.runtime,
                auth_file=registry.auth_file,
                on_progress=lambda image, done, total: node.note_progress(image, done, total),
                on_call=partial(self._on_call, name),
            )
        )
        agent = await self._stack.enter_async_context(AgentClient(settings.agent, node=name))
        runner = Runner(engine, agent, starts=self._settings.controller.starts_per_node, on_action=self._on_action)
        node = Node(name, settings, engine, agent, runner, self._settings.containers.runtime)
        for what, work in (("events", self._watch), ("agent", self._follow)):
            running = keep_running(partial(work, node))
            self._watchers.append(asyncio.get_running_loop().create_task(running, name=f"{what}-{name}"))
        log.info("node opened", node=name, engine=settings.engine, agent=str(settings.agent))
        return node

    async def _watch(self, node: Node) -> None:
        """Turn the engine's events into keys, for ever. Awaits nothing but the stream: a slow reader loses events."""
        async with aclosing(watch(node.engine)) as events:
            async for event in events:
                if isinstance(event, Gap):
                    log.info("engine events begin anew", node=node.name, reason=event.reason)
                    self._on_gap(node.name)
                else:
                    self._on_event(node.name, event)
