"""The unix socket on which oned's drivers and scripts hand over their requests (docs/protocols.md).

Knows connections and the JSON-lines protocol, nothing of VMs: what a line means is decided in ``requests``. The
links to the long-lived drivers are kept for ``delivery`` and ``reporter`` to write to.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog

from onedock.controller.intents import Channel, ScriptResult
from onedock.reconcilers.errors import TransientError

log = structlog.get_logger(__name__)

MAX_LINE_BYTES = 256 * 1024 * 1024
"""A driver sends at most 32 MiB of payload; JSON escapes make up to six bytes of one."""

MAX_WAITING = 1024
"""Connections not yet accepted; a burst of oned's scripts that finds no room here has to try again."""
_TOKEN = re.compile(r"[0-9a-f]{1,64}")


class Link:
    """One connection of a long-lived driver (vmm or im), since a Unix time."""

    def __init__(self, writer: asyncio.StreamWriter, *, kind: str, session: str) -> None:
        self._writer = writer
        self.kind = kind
        self.session = session
        self.since = time.time()

    def send(self, message: dict[str, Any]) -> None:
        """Queue one message; a dead connection swallows it, its reader notices."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    def push(self, line: str) -> None:
        """Write a line to oned that answers nothing. Its number is its own: drivers skip what they wrote before."""
        self.send({"outcome": -time.time_ns(), "line": line})

    def close(self) -> None:
        """Hang up, so that the driver reconnects and sends again what was not acknowledged."""
        self._writer.close()


class Handler(Protocol):
    """What the intake hands over to."""

    async def vmm_line(self, link: Link, seq: int, line: str, oversized: int) -> None:
        """A line for the VMM driver; returns when it is durable."""
        ...

    async def im_line(self, link: Link, seq: int, line: str, oversized: int) -> None:
        """A line for the IM driver."""
        ...

    async def script(
        self, channel: Channel, request: str, action: str, argv: Sequence[str], stdin: str
    ) -> ScriptResult:
        """A script's request; returns with its result."""
        ...

    async def delivered(self, outcome: int) -> None:
        """A driver wrote an outcome to oned."""
        ...

    def linked(self, link: Link) -> None:
        """A driver connected."""
        ...


TakeLine = Callable[[Link, int, str, int], Awaitable[None]]


class Links:
    """The connected drivers; the one that connected last is the one that oned talks to."""

    def __init__(self) -> None:
        self._links: dict[str, list[Link]] = {"vmm": [], "im": []}

    def current(self, kind: str) -> Link | None:
        """The newest link of this kind."""
        links = self._links[kind]
        return links[-1] if links else None

    def add(self, link: Link) -> None:
        """A driver connected."""
        self._links[link.kind].append(link)

    def remove(self, link: Link) -> None:
        """A driver is gone."""
        self._links[link.kind].remove(link)


class Intake:
    """The server."""

    def __init__(self, path: Path, handler: Handler, links: Links) -> None:
        self._path = path
        self._handler = handler
        self._links = links
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Accept connections until cancelled. A stale socket file of a dead controller is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o117)
        try:
            server = await asyncio.start_unix_server(
                self._connected, self._path, limit=MAX_LINE_BYTES, backlog=MAX_WAITING
            )
        finally:
            os.umask(mask)
        log.info("intake is open", socket=str(self._path))
        try:
            async with server:
                await server.serve_forever()
        finally:
            for task in self._tasks:
                task.cancel()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(self._serve(reader, writer))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="intake")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello = await _read(reader)
            if hello is None:
                return
            kind, session = str(hello["hello"]), _token(hello["session"])
            if kind in {"vmm", "im"}:
                await self._serve_driver(reader, Link(writer, kind=kind, session=session))
            else:
                await self._serve_script(reader, writer, Channel(kind))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            log.warning("a driver broke the protocol", error=str(error)[:200])
        except TransientError as error:
            # Hung up on: a script asks again with the same id.
            log.error("a request could not be made durable", error=str(error))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side died: it reconnects, or oned starts it again
        except Exception:
            log.exception("a driver's connection failed")
        finally:
            writer.close()

    async def _serve_driver(self, reader: asyncio.StreamReader, link: Link) -> None:
        log.info("driver connected", driver=link.kind, session=link.session)
        self._links.add(link)
        self._handler.linked(link)
        take: TakeLine = self._handler.vmm_line if link.kind == "vmm" else self._handler.im_line
        try:
            while (message := await _read(reader)) is not None:
                if "delivered" in message:
                    await self._handler.delivered(int(message["delivered"]))
                else:
                    line, oversized = str(message["line"]), int(message.get("oversized", 0))
                    self._spawn(_acknowledge(take, link, int(message["seq"]), line, oversized))
        finally:
            self._links.remove(link)
            log.info("driver gone", driver=link.kind, session=link.session)

    async def _serve_script(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, channel: Channel) -> None:
        message = await _read(reader)
        if message is None:
            return
        request, argv = _token(message["request"]), [str(word) for word in message["argv"]]
        result = await self._handler.script(channel, request, str(message["action"]), argv, str(message["stdin"]))
        answer = {"result": request, "code": result.code, "stdout": result.stdout, "stderr": result.stderr}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()


async def _acknowledge(take: TakeLine, link: Link, seq: int, line: str, oversized: int) -> None:
    """Take a line and acknowledge it. Lines are taken at the same time, so that one commit serves a burst.

    Their order is kept: tasks start in order, and a line is queued for the journal before its task first waits.
    """
    try:
        await take(link, seq, line, oversized)
    except TransientError as error:
        # Not acknowledged: the driver keeps the line and sends it again when it reconnects.
        log.error("a request could not be made durable", error=str(error))
        link.close()
        return
    except Exception:
        log.exception("a line could not be taken", driver=link.kind, seq=seq)  # not acknowledged: it comes again
        return
    link.send({"ack": seq})


def _token(value: object) -> str:
    """The id of a session or request, part of which becomes a key in the journal."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError(f"a session or request must be hexadecimal, not {str(value)[:40]!r}")
    return value


async def _read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """One message, or None at the end of the stream."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        return None
    message = json.loads(line)
    if not isinstance(message, dict):
        raise TypeError(f"a message must be an object, not {type(message).__name__}")
    return message
