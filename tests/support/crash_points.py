"""Named points of the traffic between ONEDock's processes, at which a test kills one of them.

Transparent proxies on the unix sockets understand just enough of HTTP and of the drivers' JSON lines to name what
passes. A call is named ``POST /containers/create`` (the Engine API's version and the query are left out), a message
of docs/protocols.md ``line DEPLOY``, ``ack DEPLOY``, ``outcome DEPLOY``, ``delivered DEPLOY``, ``request clone`` or
``result clone``. The product knows nothing of this.

All proxies of a test run in its event loop. The victim is dead before anything else passes.
"""

import asyncio
import contextlib
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_LIMIT = 64 * 1024 * 1024
_NO_BODY = frozenset({204, 304})


class Moment(StrEnum):
    """When the victim dies."""

    BEFORE = "before"
    """The call or message never arrives."""
    REPLY_LOST = "reply-lost"
    """A call: it was answered, and nobody gets the answer."""
    AFTER = "after"
    """The answer of a call, or the message, has arrived."""


@dataclass(frozen=True, slots=True)
class Point:
    """A pattern of names (``*`` is anything) and a moment."""

    name: str
    moment: Moment


@dataclass(slots=True)
class Trap:
    """A point that waits for the traffic to reach it, once."""

    point: Point
    kill: Callable[[], None]
    sprung: asyncio.Event = field(default_factory=asyncio.Event)


class CrashPoints:
    """At most one trap, which all proxies ask."""

    def __init__(self) -> None:
        self._trap: Trap | None = None
        self.passed: deque[str] = deque(maxlen=200)
        """Names of what came by last, for a failed test."""

    def arm(self, point: Point, kill: Callable[[], None]) -> Trap:
        """Set the trap: ``kill`` is called when the traffic reaches the point, and blocks until the victim is dead."""
        self._trap = Trap(point, kill)
        return self._trap

    def disarm(self) -> None:
        """Let everything pass."""
        self._trap = None

    def expects(self, moment: Moment, name: str) -> bool:
        """Whether the victim is to die at this moment of this call or message."""
        trap = self._trap
        return trap is not None and trap.point.moment is moment and fnmatchcase(name, trap.point.name)

    def reached(self, moment: Moment, name: str) -> bool:
        """Kill the victim if it is to die now; returns whether it did."""
        if moment is Moment.BEFORE:
            self.passed.append(name)
        if not self.expects(moment, name):
            return False
        trap, self._trap = self._trap, None
        assert trap is not None
        trap.kill()
        trap.sprung.set()
        return True


class LostError(Exception):
    """What was on its way is lost; both sides see their connection end."""


class Proxy:
    """Listens on one unix socket and forwards to another: ``async with Proxy(…)``. Nobody there: it hangs up."""

    def __init__(self, listen: Path, target: Path, points: CrashPoints) -> None:
        self._listen, self._target = listen, target
        self.points = points
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._connected, self._listen, limit=_LIMIT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._target, limit=_LIMIT)
            await self.forward(reader, writer, far_reader, far_writer)
        except (OSError, EOFError, LostError):
            pass  # both sides are told by the end of their connections
        finally:
            for one in (writer, far_writer):
                if one is not None:
                    one.close()
                    with contextlib.suppress(OSError):
                        await one.wait_closed()

    async def forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        """Forward one connection until either side ends it."""
        raise NotImplementedError


async def _first_to_end(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends or fails; the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


class HttpProxy(Proxy):
    """For the engine's and the agent's sockets: one call at a time on each connection, as HTTP clients do."""

    async def forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        """Calls are read ahead, so that the end of a client that waits for its answer is seen."""
        calls: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

        async def read_calls() -> None:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = b"".join([piece async for piece in _body(reader, head, is_reply=False)])
                calls.put_nowait((_call_name(head), head + body))

        async def answer_calls() -> None:
            while True:
                name, call = await calls.get()
                await self._call(name, call, writer, far_reader, far_writer)

        await _first_to_end(read_calls(), answer_calls())

    async def _call(
        self,
        name: str,
        call: bytes,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        if self.points.reached(Moment.BEFORE, name):
            raise LostError
        far_writer.write(call)
        lost = self.points.expects(Moment.REPLY_LOST, name)
        head = await far_reader.readuntil(b"\r\n\r\n")
        if not lost:
            writer.write(head)
        async for piece in _body(far_reader, head, is_reply=True):
            if not lost:
                writer.write(piece)
                await writer.drain()
        if lost:
            self.points.reached(Moment.REPLY_LOST, name)
            raise LostError
        await writer.drain()
        self.points.reached(Moment.AFTER, name)


def _call_name(head: bytes) -> str:
    """``GET /v1.41/containers/json?all=1 HTTP/1.1…`` is ``GET /containers/json``."""
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
    return f"{method} {re.sub(r'^/v[0-9.]+(?=/)', '', target.partition('?')[0])}"


async def _body(reader: asyncio.StreamReader, head: bytes, *, is_reply: bool) -> AsyncIterator[bytes]:
    """The pieces of a message's body as they come, with the framing of chunks."""
    first, *rest = head.decode("latin-1").lower().split("\r\n")
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in rest)}
    if is_reply and int(first.split(" ")[1]) in _NO_BODY:
        return
    if fields.get("transfer-encoding") == "chunked":
        size = -1
        while size != 0:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
    elif "content-length" in fields:
        yield await reader.readexactly(int(fields["content-length"]))
    elif is_reply:
        while piece := await reader.read(1 << 16):
            yield piece


class DriverProxy(Proxy):
    """For the controller's socket for drivers and scripts."""

    async def forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        """Messages go both ways at any time."""
        names = _MessageNames()
        await _first_to_end(self._pass(reader, far_writer, names), self._pass(far_reader, writer, names))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, names: "_MessageNames") -> None:
        while (line := await reader.readline()).endswith(b"\n"):
            name = names.name(json.loads(line))
            if self.points.reached(Moment.BEFORE, name):
                raise LostError
            writer.write(line)
            await writer.drain()
            self.points.reached(Moment.AFTER, name)


class _MessageNames:
    """Names the messages of one connection: an answer by what it answers."""

    def __init__(self) -> None:
        self._words: dict[tuple[str, Any], str] = {}

    def name(self, message: dict[str, Any]) -> str:
        """What the message is called."""
        match message:
            case {"hello": kind}:
                return f"hello {kind}"
            case {"seq": sequence, "line": str(line)}:
                return f"line {self._remember(('line', sequence), line)}"
            case {"ack": sequence}:
                return f"ack {self._words.pop(('line', sequence), '?')}"
            case {"outcome": number, "line": str(line)}:
                return f"outcome {self._remember(('outcome', number), line)}"
            case {"delivered": number}:
                return f"delivered {self._words.pop(('outcome', number), '?')}"
            case {"request": request, "action": str(action)}:
                return f"request {self._remember(('request', request), action)}"
            case {"result": request}:
                return f"result {self._words.pop(('request', request), '?')}"
        return "unknown"

    def _remember(self, key: tuple[str, Any], text: str) -> str:
        word = self._words[key] = text.split(None, 1)[0]
        return word
