"""Networks of many VMs on one node, by the agent over its socket, against the bare netlink messages."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.agent import PrivateAgent

from bench.bare_netlink import BareNetlink
from bench.measure import Report, Row, Stopwatch, rss_mib, series
from bench.stage import FIRST_VM
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId

VMS = 500
FIRST_BARE_VM = FIRST_VM + VMS
NICS = 2
BLOCK = 20
"""VMs of one kind in a row, before the other kind has its turn."""
ROUNDS = 3
GOAL = 1.3


@dataclass(slots=True)
class _Times:
    """Seconds per NIC, a sample for each VM."""

    agent: dict[str, list[float]] = field(default_factory=lambda: {"plumb": [], "update": [], "remove": []})
    bare: dict[str, list[float]] = field(default_factory=lambda: {"plumb": [], "update": [], "remove": []})


def _network(vm: int, bridges: str, *, moved: bool = False) -> Network:
    """A VM with a NIC in each of two bridges; ``moved``: with other addresses."""
    host = vm % 1000 + 1
    third = host // 250 + (100 if moved else 0)
    return Network(
        VmId(vm),
        tuple(
            Nic(
                index=index,
                name=f"eth{index}",
                host_name=f"one-{vm}-{index}",
                mac=f"02:00:{vm >> 16 & 255:02x}:{vm >> 8 & 255:02x}:{vm & 255:02x}:{index:02x}",
                bridge=f"{bridges}{index}",
                addresses=(f"10.{60 + index}.{third}.{host % 250 + 1}/16", f"fd00:{60 + index}::{third}:{host:x}/64"),
                gateways=(f"10.{60 + index}.255.254",),
            )
            for index in range(NICS)
        ),
    )


def _blocks() -> list[range]:
    return [range(start, min(start + BLOCK, VMS)) for start in range(0, VMS, BLOCK)]


class _Bench:
    """Both kinds on the same node, in turns; the bare one in a thread of its own."""

    def __init__(self, client: AgentClient, bare: BareNetlink, thread: ThreadPoolExecutor) -> None:
        self._client = client
        self._bare = bare
        self._thread = thread
        self.times = _Times()

    async def many_at_once(self) -> None:
        """Plumb, update and remove all VMs by the agent alone, a block at a time; nothing is measured."""
        for what in ("plumb", "update", "remove"):
            for block in _blocks():
                await asyncio.gather(*(self._ask_agent(what, FIRST_VM + number) for number in block))

    async def one_by_one(self) -> None:
        """Plumb, update and remove all VMs of both kinds."""
        for what in ("plumb", "update", "remove"):
            for block in _blocks():
                for number in block:
                    with Stopwatch() as watch:
                        await self._ask_agent(what, FIRST_VM + number)
                    self.times.agent[what].append(watch.seconds / NICS)
                loop = asyncio.get_running_loop()
                for number in block:
                    with Stopwatch() as watch:
                        await loop.run_in_executor(self._thread, self._do_barely, what, FIRST_BARE_VM + number)
                    self.times.bare[what].append(watch.seconds / NICS)

    async def _ask_agent(self, what: str, vm: int) -> None:
        match what:
            case "plumb":
                await self._client.ensure(_network(vm, "bench-a"))
            case "update":
                await self._client.ensure(_network(vm, "bench-a", moved=True))
            case _:
                await self._client.remove(VmId(vm))

    def _do_barely(self, what: str, vm: int) -> None:
        network, moved = _network(vm, "bench-b"), _network(vm, "bench-b", moved=True)
        match what:
            case "plumb":
                self._bare.plumb(network)
            case "update":
                self._bare.update(network, moved)
            case _:
                self._bare.remove(moved)


def _left(agent: PrivateAgent) -> list[str]:
    """Links, namespaces and files that should be gone."""
    links = [link["ifname"] for link in agent.ip("link") if link["ifname"] not in {"lo", "bench-b0", "bench-b1"}]
    mine = {f"one-{vm}" for vm in range(FIRST_VM, FIRST_BARE_VM + VMS)}
    spaces = [path.name for path in Path("/run/netns").iterdir() if path.name in mine]
    return [*links, *spaces, *(file.name for file in (agent.state_dir / "vms").iterdir())]


async def many_vms() -> Report:
    """Plumb, update and remove, several rounds; the agent's memory before, after the first and after the last."""
    memory: list[float] = []
    with PrivateAgent() as agent, ThreadPoolExecutor(1) as thread:
        bare = BareNetlink(Path("/run/netns", agent.netns), [f"bench-b{index}" for index in range(NICS)])
        await asyncio.get_running_loop().run_in_executor(thread, bare.__enter__)
        try:
            async with AgentClient(agent.socket) as client:
                bench = _Bench(client, bare, thread)
                await client.version()
                memory.append(rss_mib(agent.pid))
                for number in range(ROUNDS):
                    await (bench.many_at_once() if number else bench.one_by_one())
                    if left := _left(agent):
                        raise RuntimeError(f"left behind: {left[:20]}")
                    memory.append(rss_mib(agent.pid))
        finally:
            await asyncio.get_running_loop().run_in_executor(thread, bare.__exit__)
    rows = []
    for what, samples in bench.times.agent.items():
        baseline = series(bench.times.bare[what])
        rows += [
            Row(f"{what}, the same netlink messages in a bare loop, per NIC", baseline),
            Row(f"{what}, by the agent, per NIC", series(samples), baseline=baseline, goal=GOAL),
        ]
    rows += [
        Row("agent's memory, idle", series(memory[:1]), unit="MiB"),
        Row("agent's memory, after the first round", series(memory[1:2]), unit="MiB"),
        Row(f"agent's memory, growth in {ROUNDS - 1} more rounds", series([memory[-1] - memory[1]]), unit="MiB"),
    ]
    return Report(f"Networks of {VMS} VMs with {NICS} NICs each on one node", rows)
