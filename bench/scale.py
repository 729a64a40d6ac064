"""Many VMs that do not change: what a controller with 1 000 and 10 000 of them costs, and how soon it is back."""

import asyncio
import json
import os
import socket
import tempfile
import time
from pathlib import Path
from xml.etree.ElementTree import fromstring

from tests.support import processes
from tests.support.waiting import eventually

from bench.documents import BenchVm
from bench.measure import Report, Row, Stopwatch, cpu_s, rss_mib, series
from bench.simulated import SimulatedNodes, simulated_vms, spec_of
from bench.stage import Stage
from onedock.controller.journal import Journal
from onedock.controller.resync import REFRESHES_PER_S
from onedock.reconcilers.model import Condition, Desired, NodeName, Power, VmId

NODES = 100
IDLE_S = 20.0
QUIET_S = 2.0
MOST_SETTLE_S = 60
RESTARTS = 3
RESYNCS = 3


async def _preload(stage: Stage, vms: list[BenchVm]) -> None:
    """The journal of a controller that has run for long."""
    journal = await Journal.open(stage.directory / "controller" / "journal.sqlite")
    running = Condition(name="Running", ok=True, reason="Deploy", since=time.time())
    wanted = [Desired(VmId(vm.id), NodeName(vm.node), Power.RUNNING, generation=1, spec=spec_of(vm)) for vm in vms]
    await asyncio.gather(*(journal.put_desired(desired) for desired in wanted))
    await asyncio.gather(*(journal.put_condition(desired.vm, running) for desired in wanted))
    await journal.close()


def _serves(stage: Stage) -> None:
    """Ask the driver socket for something that is acknowledged when the journal has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        processes.wait_until(lambda: _connects(connection, stage.socket), within=60, what="the driver socket is open")
        lines = connection.makefile("rwb")
        for message in (
            {"hello": "vmm", "session": os.urandom(16).hex(), "pid": 1},
            {"seq": 1, "line": "DRIVER_CANCEL  1 "},
        ):
            lines.write(json.dumps(message).encode() + b"\n")
        lines.flush()
        for line in lines:
            if json.loads(line).get("ack") == 1:
                return
    raise RuntimeError("the controller hung up")


def _connects(connection: socket.socket, path: Path) -> bool:
    try:
        connection.connect(str(path))
    except OSError:
        return False
    return True


def _restart(stage: Stage) -> float:
    stage.controller.kill()
    with Stopwatch() as watch:
        stage.controller.start()
        _serves(stage)
    return watch.seconds


async def _resync(stage: Stage) -> tuple[float, float]:
    """(seconds of CPU, seconds) of one comparison with OpenNebula and all nodes. A driver that connects asks for it."""
    before = await _quiet(stage)
    cpu = cpu_s(stage.controller.pid)
    with Stopwatch() as watch:
        await asyncio.to_thread(_serves, stage)
        await _resynced(stage, before)
    return cpu_s(stage.controller.pid) - cpu, watch.seconds


async def _resynced(stage: Stage, before: float) -> None:
    async def done() -> bool:
        health = await asyncio.to_thread(stage.view, "/health")
        return health is not None and health["last_resync"] > before

    await eventually(done, within=120, what="the controller has compared everything")


async def _quiet(stage: Stage) -> float:
    """Wait until comparisons are over, also those asked for while one ran; returns when the last one ended."""
    while True:
        last = await asyncio.to_thread(stage.view, "/health")
        await asyncio.sleep(QUIET_S)
        now = await asyncio.to_thread(stage.view, "/health")
        if last and now and last["last_resync"] == now["last_resync"] > 0:
            return float(now["last_resync"])


async def _idle_percent(stage: Stage) -> float:
    """CPU of some seconds in which nobody asks for anything."""
    await _quiet(stage)
    before = cpu_s(stage.controller.pid)
    await asyncio.sleep(IDLE_S)
    return (cpu_s(stage.controller.pid) - before) / IDLE_S * 100


async def _all_seen(stage: Stage) -> None:
    """Wait until every VM had the look that it gets once after a start."""

    async def seen() -> bool:
        health = await asyncio.to_thread(stage.view, "/health")
        return health is not None and health["due"] == 0

    await eventually(seen, within=120, what="every VM was looked at")


def _floor(pool: str) -> float:
    """CPU of parsing oned's pool, and nothing else."""
    start = time.process_time()
    fromstring(pool)
    return time.process_time() - start


async def _idle_rows(stage: Stage, *, settle: bool) -> list[Row]:
    """CPU without any request: while each VM is looked at once after a start, and when that is over."""
    what = f"of one core in {IDLE_S:.0f} s without any request"
    starting = await _idle_percent(stage)
    rows = [Row(f"{what}, {REFRESHES_PER_S} VMs per s looked at after the start", series([starting]), unit="%")]
    if settle:
        await _all_seen(stage)
        idle = await _idle_percent(stage)
        rows.append(Row(f"{what}, after that", series([idle]), unit="%", goal=1.0, goal_of="p50"))
    return rows


async def _measure(count: int) -> Report:
    vms = simulated_vms(count, NODES)
    cpu: list[float] = []
    wall: list[float] = []
    floor: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix=f"{processes.RUN}-nodes-", dir="/var/tmp") as name,
        SimulatedNodes(Path(name), count, NODES) as simulated,
    ):
        async with Stage(simulated.entries) as stage:
            stage.oned.vms = {vm.id: vm for vm in vms}
            pool = stage.oned.pool()
            await _preload(stage, vms)
            await asyncio.to_thread(stage.controller.start)
            back = [await asyncio.to_thread(_restart, stage) for _ in range(RESTARTS)]
            await _resynced(stage, 0.0)
            for _ in range(RESYNCS):
                used, seconds = await _resync(stage)
                cpu.append(used)
                wall.append(seconds)
                floor.append(_floor(pool))
            idle_rows = await _idle_rows(stage, settle=count <= REFRESHES_PER_S * MOST_SETTLE_S)
            memory = rss_mib(stage.controller.pid), rss_mib(stage.controller.pid, "VmHWM")
    return Report(
        f"{count} unchanged VMs on {NODES} simulated nodes",
        [
            Row("parse oned's pool, nothing else (floor), CPU", series(floor), unit="s"),
            Row("resync, CPU", series(cpu), unit="s", baseline=series(floor), goal=3.0, goal_of="p50"),
            Row("resync, until done", series(wall), unit="s"),
            Row("SIGKILL → start → a request is durable", series(back), unit="s", goal=3.0, goal_of="p50"),
            Row("resident memory", series(memory[:1]), unit="MiB", goal=300.0, goal_of="p50"),
            Row("resident memory, highest", series(memory[1:]), unit="MiB", goal=300.0, goal_of="p50"),
            *idle_rows,
        ],
    )


async def thousand() -> Report:
    """1 000 VMs."""
    return await _measure(1_000)


async def ten_thousand() -> Report:
    """10 000 VMs."""
    return await _measure(10_000)
