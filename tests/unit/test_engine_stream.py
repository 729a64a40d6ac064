"""The reader of events against an engine that says odd things: a small HTTP server with the engine's protocol."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web
from tests.support.waiting import eventually

from onedock.nodeside import events
from onedock.nodeside.docker import DockerEngine
from onedock.nodeside.engine_http import MAX_LINE_BYTES
from onedock.nodeside.events import EngineEvent, Gap, watch
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import LABEL_VM, VmId


def event(vm: object, *, action: str = "die", time_ns: int = 1, **attributes: str) -> bytes:
    actor = {"ID": "0f" * 32, "Attributes": {LABEL_VM: str(vm), **attributes}}
    return json.dumps({"Type": "container", "Action": action, "Actor": actor, "timeNano": time_ns}).encode() + b"\n"


class OddEngine:
    """Answers like an engine; each stream of events is the next of ``streams``, then closed."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.streams: list[list[bytes]] = []
        self.queries: list[dict[str, str]] = []

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.41", "Version": "20.10.24"})

    async def events(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        response = web.StreamResponse()
        await response.prepare(request)
        if not self.streams:
            await asyncio.Event().wait()
        with contextlib.suppress(ConnectionError):  # the reader may give up
            for chunk in self.streams.pop(0):
                await response.write(chunk)
        return response

    async def nonsense(self, request: web.Request) -> web.Response:
        headers = {"Content-Type": "application/json"}  # without a charset, as the engine writes it
        return web.Response(status=int(request.match_info["status"]), headers=headers, body=b"]")


@pytest.fixture
async def odd(tmp_path: Path) -> AsyncIterator[OddEngine]:
    engine = OddEngine(tmp_path / "odd.sock")
    app = web.Application()
    app.router.add_get("/version", engine.version)
    app.router.add_get("/v1.41/events", engine.events)
    app.router.add_route("*", "/v1.41/nonsense/{status}", engine.nonsense)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(engine.socket)).start()
    yield engine
    await runner.cleanup()


@pytest.fixture
async def adapter(odd: OddEngine) -> AsyncIterator[DockerEngine]:
    async with DockerEngine(f"unix://{odd.socket}") as adapter:
        yield adapter


async def take(adapter: DockerEngine, enough: Callable[[list[EngineEvent | Gap]], bool]) -> list[EngineEvent | Gap]:
    seen: list[EngineEvent | Gap] = []
    async with asyncio.timeout(10), aclosing(watch(adapter, ping_s=60)) as stream:
        async for item in stream:
            seen.append(item)
            if enough(seen):
                break
    return seen


def vms(seen: list[EngineEvent | Gap]) -> list[int]:
    return [item.vm for item in seen if isinstance(item, EngineEvent)]


async def test_malformed_events_are_skipped(odd: OddEngine, adapter: DockerEngine) -> None:
    odd.streams.append(
        [
            b"}\n[]\nnull\n\n",
            b'{"Action": 1}\n',
            event(1)[:20],
            event(1)[20:],
            event("1; rm"),
            event(2, time_ns=-5),
            event(3, exitCode="x"),
            event(4, exitCode="9" * 400, signal="-1"),
            b"\xff\xfe\n",
            event(5, exitCode="137", signal="9"),
        ]
    )
    seen = await take(adapter, lambda seen: 5 in vms(seen))
    assert vms(seen) == [1, 3, 4, 5]
    last = seen[-1]
    assert last == EngineEvent(VmId(5), last.container, "die", 1, 137, 9)  # type: ignore[union-attr]


async def test_each_connection_is_a_gap_and_resumes_after_the_last_event(odd: OddEngine, adapter: DockerEngine) -> None:
    odd.streams += [[event(1, time_ns=1_700_000_000_000_000_041)], [event(2, time_ns=1_700_000_001_000_000_000)]]
    seen = await take(adapter, lambda seen: len([item for item in seen if isinstance(item, Gap)]) == 3)
    assert [type(item) for item in seen] == [Gap, EngineEvent, Gap, EngineEvent, Gap]
    assert [query.get("since") for query in odd.queries[:3]] == [
        None,
        "1700000000.000000042",
        "1700000001.000000001",
    ]
    assert json.loads(odd.queries[0]["filters"])["label"] == [LABEL_VM]


async def test_a_listener_that_falls_behind_is_told_of_a_gap(odd: OddEngine, adapter: DockerEngine) -> None:
    total = events.MAX_PENDING + 100
    odd.streams.append([event(7, time_ns=1), b"".join(event(8, time_ns=index) for index in range(total)), event(9)])
    async with asyncio.timeout(20), aclosing(watch(adapter, ping_s=60)) as stream:
        assert isinstance(await anext(stream), Gap)
        assert vms([await anext(stream)]) == [7]
        # The next connection proves that all of it was read although nobody took it.
        await eventually(lambda: odd.queries[1:])
        seen = [await anext(stream)]
        while 9 not in vms(seen):
            seen.append(await anext(stream))
    assert seen[0] == Gap("the listener fell behind")
    assert len(seen) < total


async def test_a_line_without_end_is_given_up(odd: OddEngine, adapter: DockerEngine) -> None:
    odd.streams += [[b"x" * (MAX_LINE_BYTES + 1), b"x"], [event(1)]]
    seen = await take(adapter, lambda seen: 1 in vms(seen))
    assert "has no end" in next(item.reason for item in seen[1:] if isinstance(item, Gap))


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_an_answer_that_is_no_json_is_transient(adapter: DockerEngine, status: int) -> None:
    with pytest.raises(TransientError, match="not understood"):
        await adapter.connection.ask("GET", f"nonsense/{status}")
