"""Security groups of a thousand rules, and filters of many VMs: how long they take to load, and what packets notice."""

import asyncio
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from tests.support.agent import PrivateAgent
from tests.support.probing import inside

from bench.measure import Report, Row, Stopwatch, rss_mib, series
from bench.stage import FIRST_VM
from onedock.nodeside.agent.firewall import kernel, shared
from onedock.nodeside.agent.firewall.ruleset import Ruleset, host_ruleset, vm_ruleset
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId, namespace_name
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule, Spoofing

VMS = 100
RULES = 1_000
GROUPS = 4
FILTERED = 500
SAMPLES = 20
BLOCK = 20
"""Packets in a row through the rules of one VM, before the other one has its turn."""
BLOCKS = 100
LOAD_GOAL = 1.5
WHOLE_GOAL_MS = 150.0
PACKET_GOAL = 1.1
FIRST_PACKET_GOAL = 1.5
FILTER_GOAL_MS = 20.0

_BRIDGE, _GATEWAY, _PORT = "bench-r0", "10.200.255.254", 7_000
_OPEN_OUT = SecurityRule(0, Direction.OUTBOUND, Protocol.ALL)
_PING = SecurityRule(999, Direction.INBOUND, Protocol.UDP, ports=((_PORT, _PORT),), peers=((_GATEWAY, _GATEWAY),))
"""Of a group that is looked up after all others."""


_UNFILTERED = Spoofing()


def _rules(number: int, variant: int = 0) -> tuple[SecurityRule, ...]:
    """So many inbound rules for ports of subnets, in a few groups; the last one alone lets packets of this bench in."""

    def rule(index: int) -> SecurityRule:
        first = 10_000 + index * 7 % 20_000
        subnet = f"10.{index % 200}.{variant}"
        return SecurityRule(
            100 + index % GROUPS,
            Direction.INBOUND,
            (Protocol.TCP, Protocol.UDP)[index % 2],
            ports=((first, first + index % 5),),
            peers=((f"{subnet}.0", f"{subnet}.255"),) if index % 3 else (),
        )

    return (*map(rule, range(number - 1)), _PING, _OPEN_OUT)


def _network(number: int, rules: tuple[SecurityRule, ...] | None, spoofing: Spoofing = _UNFILTERED) -> Network:
    vm = FIRST_VM + number
    nic = Nic(
        index=0,
        name="eth0",
        host_name=f"one-{vm}-0",
        mac=f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
        bridge=_BRIDGE,
        addresses=(f"{_address(number)}/16",),
        rules=rules,
        spoofing=spoofing,
    )
    return Network(VmId(vm), (nic,))


def _address(number: int) -> str:
    return f"10.200.{number + 1 >> 8}.{number + 1 & 255}"


def _load(ruleset: Ruleset, *, barely: bool) -> float:
    """Load a VM's groups in its namespace, where the calling thread is; ``barely``: as a shell script would."""
    with Stopwatch() as watch:
        if barely:
            subprocess.run(["nft", "-j", "-f", "-"], input=ruleset.text.encode(), check=True, capture_output=True)
        else:
            kernel.load(ruleset)
    return watch.seconds


async def _loads(client: AgentClient) -> tuple[list[float], list[float], list[float]]:
    """Another thousand rules by nft alone, by netlink, and by the agent with all that it does, in turns."""
    bare: list[float] = []
    load: list[float] = []
    whole: list[float] = []
    for number in (1, 2):
        await client.ensure(_network(number, None))
    for variant in range(1, SAMPLES + 1):
        network = _network(0, _rules(RULES, variant))
        ruleset = vm_ruleset(network)
        assert ruleset is not None
        for number, times, barely in ((1, bare, True), (2, load, False)):
            place = namespace_name(VmId(FIRST_VM + number))
            times.append(await asyncio.to_thread(inside, place, partial(_load, ruleset, barely=barely)))
        with Stopwatch() as watch:
            await client.ensure(network)
        whole.append(watch.seconds)
    return bare, load, whole


async def _many(client: AgentClient) -> list[float]:
    """Plug VMs with a thousand rules each, all in the same groups."""
    times = []
    for number in range(3, VMS + 3):
        with Stopwatch() as watch:
            await client.ensure(_network(number, _rules(RULES)))
        times.append(watch.seconds)
    return times


@contextmanager
def _echo(numbers: tuple[int, ...]) -> Iterator[None]:
    """The VMs answer every packet, until an empty one comes. One thread for all: they have the same processor."""
    with ExitStack() as stack:
        opened = selectors.DefaultSelector()
        stack.callback(opened.close)
        for one in numbers:
            make = partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
            vm = stack.enter_context(inside(namespace_name(VmId(FIRST_VM + one)), make))
            vm.bind((_address(one), _PORT))
            opened.register(vm, selectors.EVENT_READ, vm)

        def answer() -> None:
            while True:
                for ready, _ in opened.select():
                    data, whose = ready.data.recvfrom(64)
                    if not data:
                        return
                    ready.data.sendto(data, whose)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield
        finally:
            with _asking() as last:
                last.sendto(b"", (_address(numbers[0]), _PORT))
            thread.join()


def _asking() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.settimeout(5)
    opened.bind((_GATEWAY, 0))
    return opened


def _there_and_back(opened: socket.socket, number: int) -> float:
    with Stopwatch() as watch:
        opened.sendto(b"ping", (_address(number), _PORT))
        opened.recv(64)
    return watch.seconds


def _packets(numbers: tuple[int, ...]) -> dict[tuple[int, str], list[float]]:
    """Packets to VMs and back, of a flow that is known and as the first ones of flows, in turns."""
    times: dict[tuple[int, str], list[float]] = {(one, kind): [] for one in numbers for kind in ("known", "new")}
    with ExitStack() as stack:
        stack.enter_context(_echo(numbers))
        known = {one: stack.enter_context(_asking()) for one in numbers}
        for one in numbers:
            _there_and_back(known[one], one)
        for _ in range(BLOCKS):
            for one in numbers:
                times[one, "known"] += [_there_and_back(known[one], one) for _ in range(BLOCK)]
                for _ in range(BLOCK):
                    with _asking() as new:
                        times[one, "new"].append(_there_and_back(new, one))
    return times


def _filters() -> dict[tuple[int, str], list[float]]:
    """One VM's filters come and go, without and with those of others; the calling thread is in an empty namespace."""
    times: dict[tuple[int, str], list[float]] = {}
    everything = Spoofing(mac=True, ip=True)
    lines = [f"link add one-{FIRST_VM + number}-0 type bridge\n" for number in range(FILTERED + 1)]
    subprocess.run(["ip", "-batch", "-"], input="".join(lines).encode(), check=True)
    rulesets = [host_ruleset(_network(number, None, everything)) for number in range(FILTERED + 1)]
    mine, *others = [one for one in rulesets if one is not None]
    assert mine.part is not None
    changes: dict[str, Callable[[], object]] = {
        "load": partial(shared.load, mine),
        "remove": partial(shared.unload, mine.part),
    }
    for there in ([], others):
        for one in there:
            shared.load(one)
        for what in changes:
            times[len(there), what] = []
        for _ in range(SAMPLES):
            for what, change in changes.items():
                with Stopwatch() as watch:
                    change()
                times[len(there), what].append(watch.seconds)
    return times


async def thousand_rules() -> Report:
    """Load, load for many VMs, let packets through; then the filters, which all VMs of a node share."""
    few, many = VMS + 3, 3
    with PrivateAgent() as agent:
        async with AgentClient(agent.socket) as client:
            bare, load, whole = await _loads(client)
            plugs = await _many(client)
            memory = rss_mib(agent.pid)
            await client.ensure(_network(few, _rules(1)))
            agent.run(["ip", "address", "add", f"{_GATEWAY}/16", "dev", _BRIDGE])
            packets = await asyncio.to_thread(inside, agent.netns, partial(_packets, (few, many)))
            for number in range(VMS + 4):
                await client.remove(VmId(FIRST_VM + number))
    with PrivateAgent() as agent:
        filters = await asyncio.to_thread(inside, agent.netns, _filters)
    baseline = series(bare)
    rows = [
        Row(f"{RULES} other rules of a running VM, by nft -j -f alone", baseline),
        Row(
            "the same by netlink, with counters that go on and a proof", series(load), baseline=baseline, goal=LOAD_GOAL
        ),
        Row(
            "the same by the agent, new to it: request, look, plan, load, look",
            series(whole),
            goal=WHOLE_GOAL_MS,
            goal_of="p50",
        ),
        Row(f"plug a VM with {RULES} rules, {VMS} VMs in the same groups", series(plugs)),
        Row("agent's memory then", series([memory]), unit="MiB"),
    ]
    kinds = (
        ("known", "packet of a known flow, there and back", PACKET_GOAL),
        ("new", "first packet of a flow, there and back", FIRST_PACKET_GOAL),
    )
    for kind, words, goal in kinds:
        with_one = series(packets[few, kind])
        rows += [
            Row(f"{words}, 1 rule", with_one),
            Row(f"{words}, {RULES} rules", series(packets[many, kind]), baseline=with_one, goal=goal),
        ]
    for what in ("load", "remove"):
        alone = series(filters[0, what])
        rows += [
            Row(f"{what} a VM's spoofing filters, no other VM", alone),
            Row(
                f"{what} a VM's spoofing filters, {FILTERED} other VMs",
                series(filters[FILTERED, what]),
                goal=FILTER_GOAL_MS,
                goal_of="p50",
            ),
        ]
    return Report(f"Security groups of {RULES} rules", rows)
