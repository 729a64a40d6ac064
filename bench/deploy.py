"""From oned's DEPLOY line to the answer line, against the engine's bare ``create`` and ``start``."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count

import aiohttp
from tests.support.driver_process import DriverProcess

from bench.documents import BenchVm, cleanup_line, deploy_line, now
from bench.measure import Report, Row, Stopwatch, series
from bench.stage import FIRST_VM, RealNode, Stage

ROUNDS = 40
BURST = 32
BURSTS = 3


class RawEngine:
    """The Engine API over one connection pool, with nothing in between."""

    def __init__(self, node: RealNode) -> None:
        self._image = node.image
        self._http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(node.engine.socket), limit=0))
        self._containers: list[str] = []

    async def close(self) -> None:
        await self._http.close()

    async def deploy(self, network: str) -> float:
        """Seconds for one create and start."""
        with Stopwatch() as watch:
            body = {"Image": self._image, "HostConfig": {"NetworkMode": network}}
            answer = await self._call("POST", "/containers/create", body)
            await self._call("POST", f"/containers/{answer['Id']}/start")
        self._containers.append(answer["Id"])
        return watch.seconds

    async def clean_up(self) -> None:
        for container in self._containers:
            await self._call("DELETE", f"/containers/{container}?force=1&v=1")
        self._containers.clear()

    async def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, str]:
        async with self._http.request(method, f"http://engine{path}", json=body) as response:
            response.raise_for_status()
            answer: dict[str, str] = {} if response.status == 204 else await response.json()
            return answer


class Oned:
    """oned's end of the VMM driver: deploys and cleans up."""

    def __init__(self, stage: Stage, driver: DriverProcess, image: str) -> None:
        self._stage = stage
        self._driver = driver
        self._image = image
        self._vms: dict[int, BenchVm] = {}
        self._numbers: Iterator[int] = count()

    def new_vm(self, *, since: int | None = None) -> BenchVm:
        """A VM that OpenNebula has from now on."""
        number = next(self._numbers)
        vm = BenchVm(FIRST_VM + number, number, self._image, since=now() if since is None else since)
        self._stage.oned.vms[vm.id] = vm
        return vm

    def again(self, vm: BenchVm) -> BenchVm:
        """The same VM, to be started anew: inside of the guard, if it was so before."""
        return replace(vm, since=now() if vm.since else 0)

    async def deploy(self, vms: list[BenchVm]) -> list[float]:
        """Send all DEPLOY lines; seconds until each answer."""
        self._vms |= {vm.id: vm for vm in vms}
        return await self.ask("DEPLOY", [deploy_line(vm) for vm in vms])

    async def ask(self, action: str, lines: list[bytes]) -> list[float]:
        """Send lines of one action; seconds until each answer."""
        return await asyncio.to_thread(self._ask, action, lines)

    async def clean_up(self) -> None:
        """Have everything of all VMs removed, and wait for the answers."""
        lines = [cleanup_line(vm) for vm in self._vms.values()]
        await self.ask("CLEANUP", lines)
        for vm in self._vms:
            del self._stage.oned.vms[vm]
        self._vms.clear()

    def _ask(self, action: str, lines: list[bytes]) -> list[float]:
        start = time.perf_counter()
        for line in lines:
            self._driver.write(line)
        seconds: list[float] = []
        while len(seconds) < len(lines):
            answer = self._driver.read_line().decode()
            if answer.startswith(f"{action} SUCCESS"):
                seconds.append(time.perf_counter() - start)
            elif answer.startswith(action):
                raise RuntimeError(answer)
        return seconds


async def one_by_one() -> Report:
    """The latency of one deploy."""
    ours: list[float] = []
    bridge: list[float] = []
    none: list[float] = []
    with RealNode() as node:
        async with Stage([node.entry]) as stage:
            await asyncio.to_thread(stage.controller.start)
            with stage.driver("vmm") as driver:
                oned, raw = Oned(stage, driver, node.image), RawEngine(node)
                for index in range(-2, ROUNDS):
                    found = (
                        await raw.deploy("bridge"),
                        (await oned.deploy([oned.new_vm()]))[0],
                        await raw.deploy("none"),
                    )
                    if index >= 0:  # the first ones find cold caches
                        for samples, seconds in zip((bridge, ours, none), found, strict=True):
                            samples.append(seconds)
                    await raw.clean_up()
                    await oned.clean_up()
                await raw.close()
    mine = series(ours)
    return Report(
        "Deploy, one at a time",
        [
            Row("raw create + start, bridge network", series(bridge)),
            Row("raw create + start, no network", series(none)),
            Row("DEPLOY line in → answer out, against bridge", mine, baseline=series(bridge), goal=0.70),
            Row("the same, against no network", mine, baseline=series(none)),
        ],
    )


async def at_once() -> Report:
    """Many deploys that come together: until the last one is answered."""
    ours: list[float] = []
    bridge: list[float] = []
    each_of_ours: list[float] = []
    each_raw: list[float] = []
    with RealNode() as node:
        async with Stage([node.entry]) as stage:
            await asyncio.to_thread(stage.controller.start)
            with stage.driver("vmm") as driver:
                oned, raw = Oned(stage, driver, node.image), RawEngine(node)
                for _ in range(BURSTS):
                    with Stopwatch() as watch:
                        each_raw += await asyncio.gather(*(raw.deploy("bridge") for _ in range(BURST)))
                    bridge.append(watch.seconds)
                    await raw.clean_up()
                    seconds = await oned.deploy([oned.new_vm() for _ in range(BURST)])
                    ours.append(seconds[-1])
                    each_of_ours += seconds
                    await oned.clean_up()
                await raw.close()
    return Report(
        f"Deploy, {BURST} at once",
        [
            Row("raw create + start, bridge network, until the last one", series(bridge)),
            Row("DEPLOY lines in → last answer out", series(ours), baseline=series(bridge), goal=0.85),
            Row("DEPLOY line in → its own answer, against raw", series(each_of_ours), baseline=series(each_raw)),
        ],
    )
