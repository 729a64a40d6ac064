"""The engine's events about our containers, for as long as anybody listens. Called by the controller's nodes.

An event is a reason to look, never the truth: some are lost whenever the engine restarts, replays end after 256, and
an engine drops events without a word for a client that reads too slowly (and slows down for it). So the stream
is read by a task that does nothing else, and every doubt becomes a ``Gap``.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from onedock.nodeside.docker import DockerEngine
from onedock.nodeside.engine_answers import labelled_vm
from onedock.reconcilers.errors import OnedockError, TransientError
from onedock.reconcilers.model import LABEL_VM, ContainerId, VmId

log = structlog.get_logger(__name__)

ACTIONS = ("create", "start", "die", "oom", "kill", "stop", "pause", "unpause", "update", "rename", "destroy")
OPEN_S = 10.0
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.05, 2.0
MAX_PENDING = 10_000
"""Events that wait for the listener; one that is further behind is told of a gap instead."""


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something that happened to one of our containers."""

    vm: VmId
    container: ContainerId
    action: str
    """One of ``ACTIONS``."""
    time_ns: int
    """The engine's clock, nanoseconds since 1970."""
    exit_code: int | None = None
    """Of ``die``."""
    signal: int | None = None
    """Of ``kill``."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Events may have been missed before this one: list everything anew."""

    reason: str


async def watch(
    engine: DockerEngine, *, since_ns: int = 0, ping_s: float = 10.0
) -> AsyncGenerator[EngineEvent | Gap, None]:
    """Yield what happens, for ever. Connects again by itself; an engine that is away raises nothing.

    A ``Gap`` comes after every connect, the first included: the stream is open by then, so what a list misses
    comes as an event. Close the iterator (``contextlib.aclosing``) to end the reading.

    Args:
        engine: an open engine.
        since_ns: replay what the engine remembers after this time (its clock, nanoseconds since 1970); 0: nothing.
        ping_s: interval and deadline, in seconds, of the question whether the engine is alive: one that is
            stopped keeps its connections open.
    """
    inbox = _Inbox()
    reader = asyncio.create_task(_Reader(engine, inbox, since_ns, ping_s).run(), name="engine events")
    reader.add_done_callback(lambda _: inbox.arrived.set())
    try:
        while not reader.done():
            await inbox.arrived.wait()
            inbox.arrived.clear()
            while inbox.items:
                yield inbox.items.popleft()
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


class _Inbox:
    """What was read and not yet taken. Never makes the reader wait."""

    def __init__(self) -> None:
        self.items: deque[EngineEvent | Gap] = deque()
        self.arrived = asyncio.Event()

    def put(self, item: EngineEvent | Gap) -> None:
        if len(self.items) >= MAX_PENDING:
            self.items.clear()
            self.items.append(Gap("the listener fell behind"))
        self.items.append(item)
        self.arrived.set()


class _Reader:
    """Keeps one stream open and its place in it."""

    def __init__(self, engine: DockerEngine, inbox: _Inbox, since_ns: int, ping_s: float) -> None:
        self._connection = engine.connection
        self._inbox = inbox
        self._since_ns = since_ns
        self._ping_s = ping_s
        self._connected = False

    async def run(self) -> None:
        backoff = FIRST_BACKOFF_S
        reason = "first connection"
        while True:
            try:
                await self._read(reason)
            except OnedockError as error:
                reason = str(error)
            if self._connected:
                log.warning("engine events interrupted", engine=self._connection.url, error=reason)
                self._connected, backoff = False, FIRST_BACKOFF_S
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LAST_BACKOFF_S)

    async def _read(self, reason: str) -> None:
        """Read until the stream ends or the engine does not answer; always ends with an OnedockError."""
        params = {"filters": json.dumps({"type": ["container"], "label": [LABEL_VM], "event": ACTIONS})}
        if self._since_ns:
            params["since"] = f"{self._since_ns // 10**9}.{self._since_ns % 10**9:09d}"
        try:
            async with (
                asyncio.timeout(OPEN_S) as deadline,
                self._connection.stream("GET", "events", params=params) as lines,
            ):
                deadline.reschedule(None)
                self._connected = True
                log.info("engine events connected", engine=self._connection.url)
                self._inbox.put(Gap(reason))
                # Not a TaskGroup: in Python 3.11 one that is ending because of an error swallows a cancellation.
                pings = asyncio.create_task(self._ping_until_silence(deadline), name="ping engine")
                try:
                    async for line in lines:
                        self._take(line)
                finally:
                    pings.cancel()
                    await asyncio.gather(pings, return_exceptions=True)
        except TimeoutError:
            raise TransientError("the engine did not answer in time") from None
        raise TransientError("the engine ended the stream of events")

    async def _ping_until_silence(self, deadline: asyncio.Timeout) -> None:
        """Let the deadline expire when a ping fails."""
        try:
            while True:
                await asyncio.sleep(self._ping_s)
                await self._connection.ask("GET", "_ping", deadline_s=self._ping_s)
        except OnedockError:
            deadline.reschedule(asyncio.get_running_loop().time())

    def _take(self, line: bytes) -> None:
        try:
            message = _Message.model_validate_json(line)
        except ValidationError as error:
            log.warning("malformed event", engine=self._connection.url, error=str(error)[:300])
            return
        self._since_ns = message.time_nano + 1
        attributes = message.actor.attributes
        vm = labelled_vm(attributes)
        if vm is None:
            return
        self._inbox.put(
            EngineEvent(
                vm=vm,
                container=message.actor.id,
                action=message.action,
                time_ns=message.time_nano,
                exit_code=_number(attributes.get("exitCode")),
                signal=_number(attributes.get("signal")),
            )
        )


class _Actor(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal)

    id: ContainerId = Field(alias="ID")
    attributes: dict[str, str] = {}


class _Message(BaseModel):
    action: str = Field(alias="Action")
    actor: _Actor = Field(alias="Actor")
    time_nano: int = Field(alias="timeNano", ge=0, lt=1 << 63)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 10 else None
