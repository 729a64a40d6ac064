"""When a broken network is looked at: soon, once per burst, later and later when it is in vain."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

from structlog.testing import capture_logs
from tests.support.clock import run

from onedock.nodeside.agent.firewall.document import Ruleset
from onedock.nodeside.agent.healing.healer import Healer
from onedock.nodeside.agent.steps import LoadRules, Scope
from onedock.nodeside.agent.steps.words import in_words
from onedock.nodeside.heals import Cause
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import VmId

VM, OTHER = VmId(1), VmId(2)
STEP = "raise nic eth0"


class Node:
    """What is broken on it, and when which VM was looked at."""

    def __init__(self) -> None:
        self.broken: dict[VmId, tuple[str, ...]] = {}
        self.looks: list[tuple[VmId, float]] = []
        self.failures = 0
        self.on_heal: Callable[[VmId], None] = lambda _: None
        self.healer = Healer(self.heal)

    async def heal(self, vm: VmId) -> tuple[str, ...]:
        self.looks.append((vm, round(asyncio.get_running_loop().time(), 2)))
        if self.failures:
            self.failures -= 1
            raise TransientError("the kernel has no time")
        steps = self.broken.pop(vm, ())
        self.on_heal(vm)
        return steps

    def damage(self, vm: VmId = VM, *steps: str) -> None:
        self.broken[vm] = steps or (STEP,)
        self.healer.mark(vm, Cause.LINK)


def in_no_time(test: Callable[[Node], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that waits as long as it likes."""

    async def main() -> None:
        await test(Node())

    return lambda: run(main())


@in_no_time
async def test_a_burst_is_one_look(node: Node) -> None:
    for _ in range(20):
        node.damage()
        await asyncio.sleep(0.005)
    node.damage(OTHER)
    await asyncio.sleep(5)
    assert node.looks == [(VM, 0.15), (OTHER, 0.25)]
    told = node.healer.record.heals(0)
    assert told.counts == {Cause.LINK: 2}
    assert [(one.number, one.vm, one.steps, one.seconds) for one in told.recent] == [
        (1, VM, (STEP,), 0.15),
        (2, OTHER, (STEP,), 0.15),
    ]
    assert [one.number for one in node.healer.record.heals(1).recent] == [2]


@in_no_time
async def test_nobody_waits_for_more_to_be_told_of_filters(node: Node) -> None:
    node.healer.mark(VM, Cause.FILTER)
    node.healer.mark(OTHER, Cause.LINK)
    await asyncio.sleep(5)
    assert node.looks == [(VM, 0.0), (OTHER, 0.15)]


@in_no_time
async def test_what_two_put_back_at_a_time_is_counted_once(node: Node) -> None:
    node.on_heal = lambda vm: node.healer.put_back(vm, (STEP,))
    node.damage(VM)
    node.damage(OTHER, STEP, "raise loopback")
    await asyncio.sleep(5)
    told = [(one.vm, one.steps) for one in node.healer.record.heals(0).recent]
    assert told == [(VM, (STEP,)), (OTHER, (STEP,)), (OTHER, ("raise loopback",))]


@in_no_time
async def test_what_is_told_after_the_look_that_found_it_done_is_counted_once(node: Node) -> None:
    node.healer.mark(VM, Cause.ADDRESS)
    await asyncio.sleep(0.5)
    for _ in range(2):
        node.healer.put_back(VM, (STEP,))
    node.healer.mark(OTHER, Cause.ADDRESS)
    await asyncio.sleep(0.5)
    node.healer.clear(OTHER)  # somebody who was asked looks again
    node.healer.put_back(OTHER, (STEP,))
    assert [(one.vm, one.seconds) for one in node.healer.record.heals(0).recent] == [(VM, 0.5)]


@in_no_time
async def test_damage_that_only_making_sure_finds_is_as_old_as_that(node: Node) -> None:
    node.healer.mark(VM, Cause.LINK)
    await asyncio.sleep(0.05)
    node.healer.put_back(VM, (STEP,))
    node.broken[VM] = ("plug in",)
    await asyncio.sleep(5)
    assert [(one.steps, one.seconds) for one in node.healer.record.heals(0).recent] == [
        ((STEP,), 0.05),
        (("plug in",), 0),
    ]


@in_no_time
async def test_nothing_broken_counts_nothing(node: Node) -> None:
    node.healer.mark(VM, Cause.ADDRESS)
    await asyncio.sleep(5)
    assert len(node.looks) == 1
    assert node.healer.record.heals(0).counts == {}


@in_no_time
async def test_what_follows_from_a_routers_word_is_no_heal(node: Node) -> None:
    node.broken[VM] = ("add source rule 2001:db8::7",)
    node.healer.mark(VM, Cause.ADVERTISED)
    with capture_logs() as logs:
        await asyncio.sleep(5)
    assert [one["event"] for one in logs] == ["network follows a router"]
    assert node.healer.record.heals(0).counts == {}

    node.damage()
    node.healer.mark(VM, Cause.ADVERTISED)
    await asyncio.sleep(5)
    node.healer.mark(VM, Cause.ADVERTISED)
    node.damage()
    await asyncio.sleep(5)
    assert node.healer.record.heals(0).counts == {Cause.LINK: 2}


@in_no_time
async def test_rules_that_a_new_agent_loads_in_any_case_are_no_heal(node: Node) -> None:
    load = in_words(LoadRules(Scope.NODE, Ruleset((), "{}")))
    for steps, heals in ((load,), {}), ((load, "raise nic eth0"), {Cause.START: 1}):
        node.broken[VM] = steps
        await node.healer.look(VM, Cause.START)
        assert node.healer.record.heals(0).counts == heals
    node.broken[VM] = (load,)
    node.healer.mark(VM, Cause.FILTER)
    await asyncio.sleep(5)
    assert node.healer.record.heals(0).counts == {Cause.START: 1, Cause.FILTER: 1}


@in_no_time
async def test_what_somebody_else_looks_at_is_not_due(node: Node) -> None:
    node.damage()
    node.healer.clear(VM)
    await asyncio.sleep(5)
    assert node.looks == []


@in_no_time
async def test_a_vm_that_is_gone_is_forgotten(node: Node) -> None:
    node.failures = 1
    node.damage()
    await asyncio.sleep(0.5)
    node.healer.forget(VM)
    await asyncio.sleep(100)
    assert len(node.looks) == 1


@in_no_time
async def test_what_is_undone_for_ever_is_looked_at_less_and_less(node: Node) -> None:
    node.on_heal = lambda vm: node.damage(vm)
    node.damage()
    with capture_logs() as logs:
        await asyncio.sleep(400)
    times = [time for _, time in node.looks]
    pauses = [round(later - earlier, 1) for earlier, later in pairwise(times)]
    assert pauses[:8] == [0.1, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert set(pauses[8:]) == {60.0}
    complaints = [one for one in logs if "undoes" in one["event"]]
    assert complaints[0]["what"] == [STEP]


@in_no_time
async def test_what_breaks_now_and_then_is_put_back_at_once(node: Node) -> None:
    for _ in range(30):
        node.damage()
        await asyncio.sleep(2)
    assert [round(time % 2, 2) for _, time in node.looks] == [0.15] * 30, "each is a case of its own"


@in_no_time
async def test_ever_new_damage_is_put_back_at_once(node: Node) -> None:
    for number in range(20):
        node.damage(VM, f"add address eth0 10.0.0.{number}/24")
        await asyncio.sleep(0.5)
    assert len(node.looks) == 20


@in_no_time
async def test_a_failure_is_tried_again_and_told_once(node: Node) -> None:
    node.failures = 4
    node.damage()
    with capture_logs() as logs:
        await asyncio.sleep(60)
    assert [time for _, time in node.looks] == [0.15, 1.15, 3.15, 7.15, 15.15]
    assert [one["error"] for one in logs if one["log_level"] == "warning"] == ["the kernel has no time"]
    assert node.healer.record.heals(0).counts == {Cause.RETRY: 1}


@in_no_time
async def test_who_waits_for_a_switch_keeps_nobody_waiting(node: Node) -> None:
    healed: dict[VmId, float] = {}

    async def heal(vm: VmId) -> tuple[str, ...]:
        if vm > 10:
            await asyncio.sleep(5)
            raise TransientError("Open vSwitch did not do it within 5 s")
        healed[vm] = asyncio.get_running_loop().time()
        return await node.heal(vm)

    healer = Healer(heal)
    for number in range(11, 15):
        healer.mark(VmId(number), Cause.SWITCH)
    await asyncio.sleep(0.05)
    healer.mark(VM, Cause.LINK)
    for number in range(15, 40):
        healer.mark(VmId(number), Cause.SWITCH, shared=True)
    await asyncio.sleep(30)
    assert healed[VM] <= 0.7
    began = asyncio.get_running_loop().time()
    healer.mark(OTHER, Cause.LINK)
    await asyncio.sleep(30)
    assert healed[OTHER] - began <= 0.7


@in_no_time
async def test_what_has_begun_ends(node: Node) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(_: VmId) -> tuple[str, ...]:
        entered.set()
        await leave.wait()
        return ()

    healer = Healer(slow)
    healer.mark(VM, Cause.LINK)
    healer.mark(OTHER, Cause.LINK)
    await entered.wait()
    closing = asyncio.ensure_future(healer.close())
    await asyncio.sleep(1)
    assert not closing.done()
    leave.set()
    await asyncio.sleep(0)
    healer.mark(VM, Cause.LINK)
    await asyncio.wait_for(closing, 5)
