"""From the death of a container to the line that tells oned, inside and outside of oned's guard."""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import queue
import re
import signal
import socket
import threading
import time
import zlib
from dataclasses import dataclass

from tests.support.driver_process import DriverProcess
from tests.support.engine import EngineApiError, PrivateEngine
from tests.support.waiting import eventually

from bench.deploy import Oned
from bench.documents import BenchVm, now
from bench.measure import Report, Row, series
from bench.stage import RealNode, Stage

CONTAINERS = 50
KILLS = 60
ONED_MS = 18
"""oned's own share, median from the pushed line until ``one.vm.info`` shows it, measured with a real oned 7.4.0."""

_ID = re.compile(r'ID="(\d+)"')


class RawEvents:
    """The engine's own event stream, and the first look at a container after its death: the floors.

    Read by a thread that does nothing else. The engine holds the container's lock while it cleans up after a death,
    so that a look just after the event waits for that.
    """

    def __init__(self, engine: PrivateEngine) -> None:
        self._engine = engine
        self._connection = http.client.HTTPConnection("engine")
        self._connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.sock.connect(str(engine.socket))
        self._connection.request("GET", '/events?filters={"event":["die"]}')
        self._answer = self._connection.getresponse()
        self._seen: queue.SimpleQueue[tuple[str, float, float]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._answer:
            event_at = time.perf_counter()
            name = json.loads(line)["Actor"]["Attributes"]["name"]
            with contextlib.suppress(EngineApiError):  # at the end the stage is cleared, and containers go as they die
                self._engine.api("GET", f"/containers/{name}/json")
            self._seen.put((name, event_at, time.perf_counter()))

    def died(self, container: str) -> tuple[float, float]:
        """When the event of this container's death arrived, and when the engine showed it dead."""
        while True:
            name, event_at, shown_at = self._seen.get(timeout=10)
            if name == container:
                return event_at, shown_at


def _told(im: DriverProcess, vm: BenchVm, others: set[int]) -> float:
    """When the driver wrote the line from which oned learns that this VM is off, and no other one."""
    while True:
        head, _, payload = im.read_line().decode().rpartition(" ")
        at = time.perf_counter()
        if not head.startswith("STATE_VM SUCCESS"):
            continue
        text = zlib.decompress(base64.b64decode(payload)).decode()
        listed = {int(number) for number in _ID.findall(text)}
        if "SYNC_STATE=yes" in text and vm.id not in listed and others <= listed:
            return at
        if f'ID="{vm.id}"' in text and 'STATE="POWEROFF"' in text:
            return at


@dataclass(frozen=True, slots=True)
class _Death:
    """Seconds from the kill."""

    event: float
    shown: float
    told: float


def _kill(engine: PrivateEngine, raw: RawEvents, im: DriverProcess, vm: BenchVm, others: set[int]) -> _Death:
    pid = engine.api("GET", f"/containers/one-{vm.id}/json")["State"]["Pid"]
    start = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    told = _told(im, vm, others)
    event, shown = raw.died(f"one-{vm.id}")
    return _Death(event - start, shown - start, told - start)


async def deaths() -> Report:
    """Kill containers one by one; start each again, half of them as freshly started, half as long ago."""
    fresh: list[_Death] = []
    old: list[_Death] = []
    with RealNode() as node:
        async with Stage([node.entry]) as stage:
            await asyncio.to_thread(stage.controller.start)
            raw = RawEvents(node.engine)
            with stage.driver("vmm") as vmm, stage.driver("im") as im:
                oned = Oned(stage, vmm, node.image)
                vms = [oned.new_vm(since=0 if number % 2 else now()) for number in range(CONTAINERS)]
                await oned.deploy(vms)
                await eventually(lambda: stage.view("/health")["nodes"][0]["listed_at"], what="the node is listed")
                ids = {vm.id for vm in vms}
                for kill in range(2 * KILLS):
                    vm = vms[kill % CONTAINERS]
                    stage.oned.stopped.add(vm.id)
                    death = await asyncio.to_thread(_kill, node.engine, raw, im, vm, ids - {vm.id})
                    (fresh if vm.since else old).append(death)
                    vms[kill % CONTAINERS] = again = oned.again(vm)
                    await oned.deploy([again])
                    stage.oned.stopped.discard(vm.id)
                await oned.clean_up()
    deaths = fresh + old
    shown = series([death.shown for death in deaths])
    goal = 100.0 - ONED_MS
    return Report(
        f"A container dies, {CONTAINERS} on the node",
        [
            Row("kill → event on a raw stream", series([death.event for death in deaths])),
            Row("kill → the engine shows it dead, asked at the event (floor)", shown),
            Row(
                "kill → line for oned, outside the guard",
                series([death.told for death in old]),
                baseline=shown,
                goal=goal,
                goal_of="p99",
            ),
            Row(
                "kill → line for oned, inside the guard",
                series([death.told for death in fresh]),
                baseline=shown,
                goal=goal,
                goal_of="p99",
            ),
        ],
    )
