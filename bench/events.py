"""From the death of a container to the line that tells oned, inside and outside of oned's guard."""

import asyncio
import base64
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

from bench.deploy import Oned
from bench.documents import BenchVm, now
from bench.measure import Report, Row, series
from bench.stage import RealNode, Stage
from tests.support.driver_process import DriverProcess
from tests.support.engine import PrivateEngine
from tests.support.waiting import eventually

CONTAINERS = 50
KILLS = 60
ONED_MS = 18
"""oned's own share, median from the pushed line until ``one.vm.info`` shows it, measured with a real oned 7.4.0."""

_ID = re.compile(r'ID="(\d+)"')


class RawEvents:
    """The engine's own event stream, read by a thread that does nothing else: the floor."""

    def __init__(self, engine: PrivateEngine) -> None:
        self._connection = http.client.HTTPConnection("engine")
        self._connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.sock.connect(str(engine.socket))
        self._connection.request("GET", '/events?filters={"event":["die"]}')
        self._answer = self._connection.getresponse()
        self._seen: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._answer:
            self._seen.put((json.loads(line)["Actor"]["Attributes"]["name"], time.perf_counter()))

    def died(self, container: str) -> float:
        """When the event of this container's death arrived."""
        while True:
            name, at = self._seen.get(timeout=10)
            if name == container:
                return at


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


def _kill(
    engine: PrivateEngine, raw: RawEvents, im: DriverProcess, vm: BenchVm, others: set[int]
) -> tuple[float, float]:
    """(until the raw event, until the line for oned), in seconds."""
    pid = engine.api("GET", f"/containers/one-{vm.id}/json")["State"]["Pid"]
    start = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    told = _told(im, vm, others)
    return raw.died(f"one-{vm.id}") - start, told - start


async def deaths() -> Report:
    """Kill containers one by one; start each again, alternately as a fresh and as an old one."""
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
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
                    inside = bool(vm.since)
                    found[inside].append(await asyncio.to_thread(_kill, node.engine, raw, im, vm, ids - {vm.id}))
                    vms[kill % CONTAINERS] = again = oned.again(vm)
                    await oned.deploy([again])
                    stage.oned.stopped.discard(vm.id)
                await oned.clean_up()
    floor = series([event for pairs in found.values() for event, _ in pairs])
    inside, outside = (series([told for _, told in found[guarded]]) for guarded in (True, False))
    goal = 100.0 - ONED_MS
    return Report(
        f"A container dies, {CONTAINERS} on the node",
        [
            Row("kill → event on a raw stream (floor)", floor),
            Row("kill → line for oned, outside the guard", outside, baseline=floor, goal=goal, goal_of="p99"),
            Row("kill → line for oned, inside the guard", inside, baseline=floor, goal=goal, goal_of="p99"),
        ],
    )
