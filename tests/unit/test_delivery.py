"""Outcomes reach oned once, across the death of drivers and controllers, and never when they are stale."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from tests.support.machinery import BOOT, DONE, RUNNING, Machinery, RecordingLink, World
from tests.support.specs import NODE, VM

from onedock.controller.intents import Channel, Intent, NewIntent, Outcome
from onedock.reconcilers.model import VmId

pytestmark = pytest.mark.looptime


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.oned.set(VM, state=3, lcm_state=BOOT, seq=0)
    return made


def fates(world: World) -> list[tuple[int, str | None]]:
    """(intent, fate) of every outcome in the journal's file."""
    with sqlite3.connect(world.path) as connection:
        rows = connection.execute("SELECT intent_id, fate FROM outcomes ORDER BY intent_id").fetchall()
    connection.close()
    return [(row[0], row[1]) for row in rows]


async def concluded(
    controller: Machinery, source: str, *, action: str = "DEPLOY", lcm_state: int = BOOT, seq: int = 0, vm: VmId = VM
) -> tuple[Intent, Outcome]:
    new = NewIntent(source, Channel.VMM, action, vm, NODE, "", 0.0, lcm_state, seq)
    intent = await controller.journal.accept(new)
    assert intent is not None
    outcome = Outcome(intent.id, ok=True, info=f"one-{vm}", created=1.0)
    await controller.journal.conclude(intent, outcome)
    return intent, outcome


ANSWER = f"DEPLOY SUCCESS {VM} one-{VM}"


async def test_an_outcome_goes_out_at_once_on_the_link_of_its_request(world: World) -> None:
    async with world.controller("delivery") as controller:
        world.oned.reachable = False  # it need not be asked
        link = controller.connect(session="first")
        intent, outcome = await concluded(controller, "first:1")
        controller.delivery.add(intent, outcome)
        assert link.messages == [{"outcome": intent.id, "line": ANSWER}]
        assert controller.delivery.waiting(VM)
        await controller.confirm(link)
        await asyncio.sleep(60)
        assert link.answers == [ANSWER]
        assert fates(world) == [(intent.id, "delivered")]
        assert not controller.delivery.waiting(VM)
        assert len(controller.delivery) == 0


async def test_a_driver_that_dies_before_it_wrote_is_replaced(world: World) -> None:
    async with world.controller("delivery") as controller:
        link = controller.connect(session="first")
        intent, outcome = await concluded(controller, "first:1")
        controller.delivery.add(intent, outcome)
        controller.disconnect(link)
        second = controller.connect(session="second")
        await controller.until(lambda: second.answers == [ANSWER])
        await controller.confirm(second)
        assert fates(world) == [(intent.id, "delivered")]


async def test_a_driver_that_dies_after_it_wrote_is_not_repeated(world: World) -> None:
    async with world.controller("delivery") as controller:
        link = controller.connect(session="first")
        intent, outcome = await concluded(controller, "first:1")
        controller.delivery.add(intent, outcome)
        controller.disconnect(link)
        second = controller.connect(session="second")
        await asyncio.sleep(0.2)  # oned acts on what it has read
        world.oned.set(VM, lcm_state=RUNNING)
        await asyncio.sleep(60)
        assert second.answers == []
        assert fates(world)[0][1] is not None
        assert "no longer in BOOT" in str(fates(world)[0][1])


async def test_an_outcome_without_a_driver_waits_for_one(world: World) -> None:
    async with world.controller("delivery") as controller:
        intent, outcome = await concluded(controller, "first:1")
        controller.delivery.add(intent, outcome)
        await asyncio.sleep(100)
        link = controller.connect(session="second")
        await controller.until(lambda: link.answers == [ANSWER])


@pytest.mark.parametrize(
    ("now", "delivered"),
    [
        ({"lcm_state": BOOT}, True),
        ({"lcm_state": RUNNING}, False),
        ({"lcm_state": BOOT, "seq": 1}, False),
        ({"state": 8, "lcm_state": 0}, False),
        ({"state": DONE, "lcm_state": 0}, False),
        (None, False),
    ],
    ids=["waits", "went on", "another time", "powered off", "over", "forgotten"],
)
async def test_after_a_restart_oned_is_asked_first(world: World, now: dict[str, int] | None, delivered: bool) -> None:
    async with world.controller() as controller:
        await concluded(controller, "first:1")
    if now is None:
        world.oned.remove(VM)
    else:
        world.oned.set(VM, **now)
    async with world.controller("delivery") as controller:
        link = controller.connect(session="first")
        await asyncio.sleep(5)
        assert link.answers == ([ANSWER] if delivered else [])
        if not delivered:
            assert str(fates(world)[0][1]).startswith("dropped: ")
    async with world.controller("delivery") as controller:
        link = controller.connect(session="first")
        await asyncio.sleep(5)
        assert link.answers == ([ANSWER] if delivered else [])  # not confirmed, so asked again


async def test_an_oned_that_does_not_answer_is_asked_until_it_does(world: World) -> None:
    async with world.controller() as controller:
        await concluded(controller, "first:1")
    world.oned.reachable = False
    async with world.controller("delivery") as controller:
        link = controller.connect()
        await asyncio.sleep(500)
        assert link.answers == []
        world.oned.reachable = True
        await controller.until(lambda: link.answers == [ANSWER])
        await controller.confirm(link)
        await asyncio.sleep(100)
        assert link.answers == [ANSWER]


async def test_a_driver_replaced_while_oned_is_asked_loses_nothing(world: World) -> None:
    async with world.controller() as controller:
        await concluded(controller, "first:1")
    world.oned.delay_s = 3
    async with world.controller("delivery") as controller:
        first = controller.connect(session="first")
        await asyncio.sleep(1)
        controller.disconnect(first)
        second = controller.connect(session="second")
        await controller.until(lambda: second.answers == [ANSWER])
        assert first.answers == []


async def test_a_driver_that_is_gone_while_oned_is_asked_loses_nothing(world: World) -> None:
    async with world.controller() as controller:
        await concluded(controller, "first:1")
    world.oned.delay_s = 3
    async with world.controller("delivery") as controller:
        first = controller.connect(session="first")
        await asyncio.sleep(1)
        controller.disconnect(first)
        await asyncio.sleep(100)
        second = controller.connect(session="second")
        await controller.until(lambda: second.answers == [ANSWER])


async def test_a_clean_up_is_answered_only_while_oned_cleans_up(world: World) -> None:
    async with world.controller() as controller:
        await concluded(controller, "first:1", action="CLEANUP", lcm_state=15)
        await concluded(controller, "first:2", action="CLEANUP", lcm_state=15, vm=VmId(25004))
    world.oned.set(VM, state=DONE, lcm_state=0)
    world.oned.set(VmId(25004), state=3, lcm_state=15, seq=3)
    async with world.controller("delivery") as controller:
        link = controller.connect()
        await asyncio.sleep(5)
        assert link.answers == ["CLEANUP SUCCESS 25004 one-25004"]


async def test_a_full_disk_delays_the_note_and_not_the_answer(world: World) -> None:
    async with world.controller() as controller:
        await concluded(controller, "first:1")
        await concluded(controller, "first:2", lcm_state=RUNNING)
    async with world.controller("delivery") as controller:
        controller.journal.full = True
        link = controller.connect()
        await controller.until(lambda: link.answers == [ANSWER])
        await controller.confirm(link)
        await asyncio.sleep(10)
        assert len(controller.delivery) == 0
    assert [fate for _, fate in fates(world)] == [None, None]


async def test_what_oned_cancelled_is_asked_about(world: World) -> None:
    async with world.controller("delivery") as controller:
        intent, outcome = await concluded(controller, "first:1")
        controller.delivery.add(intent, outcome)  # nobody is connected
        world.oned.set(VM, lcm_state=15)
        controller.delivery.doubt(VM)
        link = controller.connect()
        await asyncio.sleep(5)
        assert link.answers == []


async def test_many_outcomes_keep_their_order(world: World) -> None:
    vms = [VmId(25200 + n) for n in range(20)]
    async with world.controller() as controller:
        for vm in vms:
            world.oned.set(vm, state=3, lcm_state=BOOT)
            await concluded(controller, f"first:{vm}", vm=vm)
    async with world.controller("delivery") as controller:
        link: RecordingLink = controller.connect()
        await controller.until(lambda: len(link.answers) == len(vms))
        assert [int(line.split()[2]) for line in link.answers] == vms
