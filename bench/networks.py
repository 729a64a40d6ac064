"""Networks of many VMs on one node, by the agent over its socket, against the same netlink messages in bare loops."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.agent import PrivateAgent

from bench.bare_netlink import BareNetlink
from bench.measure import Report, Row, Stopwatch, cpu_s, rss_mib, series
from bench.netlink_calls import Bytes, Pyroute2
from bench.stage import FIRST_VM
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId

VMS = 500
NICS = 2
BLOCK = 20
"""VMs of one kind in a row, before the other kind has its turn."""
ROUNDS = 3
GOAL = 1.3
CALM_S = 0.05

_ACTIONS = ("plumb", "update", "remove")


@dataclass(frozen=True, slots=True)
class _Kind:
    """Who does it."""

    words: str
    bridges: str
    first_vm: int
    bare: BareNetlink | None = None
    """None: the agent."""
    times: dict[str, list[float]] = field(default_factory=lambda: {action: [] for action in _ACTIONS})
    """Seconds per NIC, a sample for each VM."""


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
    """All kinds on the same node, in turns; the bare ones in a thread of their own."""

    def __init__(self, client: AgentClient, agent_pid: int, thread: ThreadPoolExecutor, kinds: Sequence[_Kind]) -> None:
        self._client = client
        self._agent_pid = agent_pid
        self._thread = thread
        self._kinds = kinds

    async def many_at_once(self) -> None:
        """Plumb, update and remove all VMs by the agent alone, a block at a time; nothing is measured."""
        agent = self._kinds[0]
        for what in _ACTIONS:
            for block in _blocks():
                await asyncio.gather(*(self._do(agent, what, agent.first_vm + number) for number in block))

    async def one_by_one(self) -> None:
        """Plumb, update and remove all VMs of all kinds."""
        for what in _ACTIONS:
            for block in _blocks():
                for kind in self._kinds:
                    for number in block:
                        with Stopwatch() as watch:
                            await self._do(kind, what, kind.first_vm + number)
                        kind.times[what].append(watch.seconds / NICS)
                    await self._calm()

    async def _calm(self) -> None:
        """Wait for what the agent does beside its answers, such as announcements: they are not the next one's load."""
        before = -1.0
        while (used := cpu_s(self._agent_pid)) > before:
            before = used
            await asyncio.sleep(CALM_S)

    async def _do(self, kind: _Kind, what: str, vm: int) -> None:
        network, moved = _network(vm, kind.bridges), _network(vm, kind.bridges, moved=True)
        if kind.bare is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, _barely, kind.bare, what, network, moved)
        elif what == "remove":
            await self._client.remove(VmId(vm))
        else:
            await self._client.ensure(network if what == "plumb" else moved)


def _barely(bare: BareNetlink, what: str, network: Network, moved: Network) -> None:
    match what:
        case "plumb":
            bare.plumb(network)
        case "update":
            bare.update(network, moved)
        case _:
            bare.remove(moved)


def _left(agent: PrivateAgent, kinds: Sequence[_Kind]) -> list[str]:
    """Links, namespaces and files that should be gone."""
    kept = {"lo", *(name for kind in kinds if kind.bare for name in _bridges(kind.bridges))}
    links = [link["ifname"] for link in agent.ip("link") if link["ifname"] not in kept]
    mine = {f"one-{kind.first_vm + number}" for kind in kinds for number in range(VMS)}
    spaces = [path.name for path in Path("/run/netns").iterdir() if path.name in mine]
    return [*links, *spaces, *(file.name for file in (agent.state_dir / "vms").iterdir())]


async def many_vms() -> Report:
    """Plumb, update and remove, several rounds; the agent's memory before, after the first and after the last."""
    memory: list[float] = []
    loop = asyncio.get_running_loop()
    with PrivateAgent() as agent, ThreadPoolExecutor(1) as thread:
        kinds = [_Kind("by the agent", "bench-a", FIRST_VM), *_bare_kinds(Path("/run/netns", agent.netns))]
        opened = [kind.bare for kind in kinds if kind.bare is not None]
        for kind in kinds[1:]:
            for name in _bridges(kind.bridges):
                agent.run(["ip", "link", "add", name, "up", "type", "bridge"])
        for bare in opened:
            await loop.run_in_executor(thread, bare.__enter__)
        try:
            async with AgentClient(agent.socket) as client:
                bench = _Bench(client, agent.pid, thread, kinds)
                await client.version()
                memory.append(rss_mib(agent.pid))
                for number in range(ROUNDS):
                    await (bench.many_at_once() if number else bench.one_by_one())
                    if left := _left(agent, kinds):
                        raise RuntimeError(f"left behind: {left[:20]}")
                    memory.append(rss_mib(agent.pid))
        finally:
            for bare in opened:
                await loop.run_in_executor(thread, bare.__exit__)
    return Report(f"Networks of {VMS} VMs with {NICS} NICs each on one node", [*_rows(kinds), *_memory_rows(memory)])


def _bare_kinds(node: Path) -> list[_Kind]:
    found = []
    loops = (
        ("pyroute2, changes only", Pyroute2, False),
        ("pyroute2, looks included", Pyroute2, True),
        ("the agent's own bytes, looks included", Bytes, True),
    )
    for place, (words, calls, looks) in enumerate(loops, start=1):
        bridges = f"bench-{'abcd'[place]}"
        bare = BareNetlink(node, _bridges(bridges), calls, looks=looks)
        found.append(_Kind(f"bare loop of {words}", bridges, FIRST_VM + place * VMS, bare))
    return found


def _bridges(prefix: str) -> list[str]:
    return [f"{prefix}{index}" for index in range(NICS)]


def _rows(kinds: Sequence[_Kind]) -> Iterator[Row]:
    for what in _ACTIONS:
        agent, changes, same, own_bytes = (series(kind.times[what]) for kind in kinds)
        for kind, samples in zip(kinds[1:], (changes, same, own_bytes), strict=True):
            yield Row(f"{what}, {kind.words}, per NIC", samples)
        yield Row(f"{what}, {kinds[0].words}, per NIC", agent, baseline=same, goal=GOAL)
        yield Row("against what changes something alone", agent, baseline=changes)
        yield Row("against the same bytes", agent, baseline=own_bytes)


def _memory_rows(memory: Sequence[float]) -> Iterator[Row]:
    yield Row("agent's memory, idle", series(memory[:1]), unit="MiB")
    yield Row("agent's memory, after the first round", series(memory[1:2]), unit="MiB")
    growth = series([memory[-1] - memory[1]])
    yield Row(f"agent's memory, growth in {ROUNDS - 1} more rounds", growth, unit="MiB")
