"""The comparison with oned and the engines: lost requests, orphans, a lost journal. It never acts on ignorance."""

import asyncio
from pathlib import Path

import pytest
from tests.support.machinery import (
    ACTIVE,
    BOOT,
    BOOT_POWEROFF,
    DONE,
    RUNNING,
    SHUTDOWN_POWEROFF,
    Machinery,
    World,
    said_of,
)
from tests.support.specs import NODE, VM, running, vm_spec
from tests.support.vm_xml import BRIDGED, PLAIN, ROOT_DISK

from onedock.reconcilers.model import Phase, Power, VmId

pytestmark = pytest.mark.looptime
GRACE_S = 300.0
EVERYTHING = ("worker", "delivery", "reporter", "resync")
STRANGER = VmId(25020)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def running_vm(world: World) -> None:
    """A VM runs, and its controller is gone."""
    async with world.controller("worker", "delivery") as controller:
        await controller.deploy(controller.connect())


def lose_journal(world: World) -> None:
    for path in world.path.parent.glob("journal.sqlite*"):
        path.unlink()


def power_of(controller: Machinery, vm: VmId = VM) -> Power | None:
    record = controller.registry.find(vm)
    return record.desired.power if record is not None and record.desired is not None else None


@pytest.mark.parametrize(
    ("before", "lcm_state", "history_action", "verb", "phase"),
    [
        (False, BOOT, 0, "DEPLOY", Phase.RUNNING),
        (True, BOOT_POWEROFF, 0, "DEPLOY", Phase.RUNNING),
        (True, SHUTDOWN_POWEROFF, 19, "SHUTDOWN", Phase.EXITED),
        (True, SHUTDOWN_POWEROFF, 20, "CANCEL", Phase.EXITED),
        (True, 12, 28, "CANCEL", Phase.EXITED),
        (True, 21, 0, "RESTORE", Phase.RUNNING),
    ],
)
async def test_a_request_lost_with_its_driver_is_made_again(
    world: World, before: bool, lcm_state: int, history_action: int, verb: str, phase: Phase
) -> None:
    if before:
        await running_vm(world)
    world.oned.set(VM, state=ACTIVE, lcm_state=lcm_state, action=history_action, seq=4)
    async with world.controller(*EVERYTHING) as controller:
        link = controller.connect(session="second")
        await controller.until(lambda: len(link.answers) == 1)
        assert link.answers[0].startswith(f"{verb} SUCCESS {VM} ")
        assert world.engine.phase() is phase
        await controller.confirm(link)
        world.oned.set(VM, lcm_state=RUNNING)
        await asyncio.sleep(200)
        assert len(link.answers) == 1


@pytest.mark.parametrize(
    ("previous_action", "verb", "nics"),
    [(23, "ATTACHNIC", [0, 1]), (46, "ATTACHNIC", [0, 1]), (24, "DETACHNIC", [0]), (51, "UPDATENIC", [0, 1])],
)
async def test_a_change_of_a_nic_lost_with_its_driver_is_made_again(
    world: World, previous_action: int, verb: str, nics: list[int]
) -> None:
    await running_vm(world)
    second = dict(BRIDGED) | {"NIC_ID": "1", "MAC": "02:00:0a:00:00:0b", "ATTACH": "YES", "TARGET": f"one-{VM}-1"}
    world.oned.set(VM, lcm_state=25, seq=4, previous_action=previous_action, nics=(BRIDGED, second))
    async with world.controller(*EVERYTHING) as controller:
        link = controller.connect(session="second")
        await controller.until(lambda: len(link.answers) == 1)
        assert link.answers[0].startswith(f"{verb} SUCCESS {VM} ")
        assert [nic.index for nic in world.networks.networks[VM].nics] == nics
        assert world.engine.starts == 1


@pytest.mark.parametrize("attaching", [False, True])
async def test_a_new_context_lost_with_its_driver_is_taken(world: World, attaching: bool) -> None:
    await running_vm(world)
    disks = ({**ROOT_DISK, "DISK_ID": "1", "ATTACH": "YES"},) if attaching else ()
    world.oned.set(VM, lcm_state=17, disks=(ROOT_DISK, *disks), context={"ETH0_MASK": "255.255.0.0"})
    async with world.controller(*EVERYTHING) as controller:
        link = controller.connect(session="second")
        await asyncio.sleep(30)
        assert link.answers == ([] if attaching else [f"UPDATECONF SUCCESS {VM} -"])
        (nic,) = world.networks.networks[VM].nics
        assert nic.addresses == (("10.0.0.10/24",) if attaching else ("10.0.0.10/16",))


async def test_nics_that_recover_has_decided_about_follow(world: World) -> None:
    await running_vm(world)
    second = dict(BRIDGED) | {"NIC_ID": "1", "MAC": "02:00:0a:00:00:0b", "TARGET": f"one-{VM}-1"}
    async with world.controller(*EVERYTHING) as controller:
        controller.connect(session="second")
        await asyncio.sleep(100)
        for nics, wanted in (((BRIDGED, second), [0, 1]), ((BRIDGED,), [0])):
            world.oned.set(VM, nics=nics)
            await asyncio.sleep(100)
            assert [nic.index for nic in world.networks.networks[VM].nics] == wanted
            desired = controller.record().desired
            assert desired is not None
            assert (await controller.journal.load()).desired == (desired,)
        assert world.engine.starts == 1


async def test_a_nic_that_was_plugged_for_nobody_goes(world: World) -> None:
    """An answer may come too late: oned has taken the NIC back by then, and lists what it did before."""
    async with world.controller(*EVERYTHING) as controller:
        link = controller.connect()
        await controller.deploy(link)
        await asyncio.sleep(100)
        second = dict(BRIDGED) | {"NIC_ID": "1", "MAC": "02:00:0a:00:00:0b", "ATTACH": "YES", "TARGET": f"one-{VM}-1"}
        world.oned.set(VM, lcm_state=25, nics=(BRIDGED, second))
        await controller.ask(link, 2, "ATTACHNIC")
        await controller.until(lambda: len(link.answers) == 2)
        await controller.confirm(link)
        world.oned.set(VM, lcm_state=RUNNING, nics=(BRIDGED,))
        await asyncio.sleep(100)
        assert [nic.index for nic in world.networks.networks[VM].nics] == [0]


async def test_a_hint_shows_other_nics_before_the_next_comparison(world: World) -> None:
    await running_vm(world)
    second = dict(BRIDGED) | {"NIC_ID": "1", "MAC": "02:00:0a:00:00:0b", "TARGET": f"one-{VM}-1"}
    async with world.controller(*EVERYTHING, "hinted") as controller:
        controller.connect(session="second")
        await asyncio.sleep(100)
        world.oned.set(VM, nics=(BRIDGED, second))
        controller.resync.hint(VM)
        await asyncio.sleep(1)
        assert [nic.index for nic in world.networks.networks[VM].nics] == [0, 1]


async def test_aliases_are_no_difference(world: World) -> None:
    alias = {"NIC_ID": "5", "PARENT_ID": "0", "ALIAS_ID": "0", "IP": "10.0.0.77", "VN_MAD": "bridge"}
    world.oned.set(VM, aliases=(alias,))
    await running_vm(world)
    async with world.controller(*EVERYTHING) as controller:
        controller.connect(session="second")
        await asyncio.sleep(200)
        before = controller.record().desired
        await asyncio.sleep(200)
        assert controller.record().desired is before


async def test_a_request_that_is_open_or_answered_is_not_lost(world: World) -> None:
    world.oned.set(VM, state=ACTIVE, lcm_state=BOOT)
    async with world.controller(*EVERYTHING) as controller:
        link = controller.connect()
        world.engine.free.clear()
        await controller.ask(link, 1, "DEPLOY")
        await asyncio.sleep(100)
        assert len(controller.record().intents) == 1
        world.engine.free.set()
        await asyncio.sleep(100)  # the answer is written, and not confirmed
        assert len(link.answers) == 1
        assert len(controller.record().intents) == 0


@pytest.mark.parametrize("lcm_state", [1, 3, 25, 32, 4, 11])
async def test_other_states_of_oned_are_no_requests(world: World, lcm_state: int) -> None:
    world.oned.set(VM, state=ACTIVE, lcm_state=lcm_state)
    async with world.controller(*EVERYTHING) as controller:
        link = controller.connect()
        await asyncio.sleep(200)
        assert link.answers == []
        assert world.engine.containers == {}


async def test_a_lost_journal_is_rebuilt_from_oned_and_nothing_stops(world: World) -> None:
    await running_vm(world)
    before = dict(world.engine.containers)
    lose_journal(world)
    async with world.controller(*EVERYTHING) as controller:
        im = controller.connect("im")
        await controller.until(lambda: power_of(controller) is Power.RUNNING)
        await asyncio.sleep(200)
        assert world.engine.containers == before
        assert all(said_of(text) == {VM: "RUNNING"} for text in im.pushed)
        assert len(im.pushed) > 1
        assert [d.vm for d in (await controller.journal.load()).desired] == [VM]


async def test_a_frozen_vm_is_adopted_as_such(world: World) -> None:
    await running_vm(world)
    lose_journal(world)
    world.engine.pause(VM)
    world.oned.set(VM, state=5, lcm_state=0)
    async with world.controller(*EVERYTHING) as controller:
        controller.connect("im")
        await asyncio.sleep(200)
        assert power_of(controller) is Power.SUSPENDED
        assert world.engine.phase() is Phase.PAUSED


async def test_a_powered_off_vm_is_adopted_as_such(world: World) -> None:
    await running_vm(world)
    lose_journal(world)
    world.oned.set(VM, state=8, lcm_state=0)
    async with world.controller(*EVERYTHING) as controller:
        await asyncio.sleep(200)
        assert power_of(controller) is Power.STOPPED
        assert world.engine.phase() is Phase.EXITED


@pytest.mark.parametrize("lcm_state", [24, 25, 11, 1])
async def test_a_vm_in_transition_is_neither_stopped_nor_missing(world: World, lcm_state: int) -> None:
    await running_vm(world)
    lose_journal(world)
    world.oned.set(VM, lcm_state=lcm_state)
    async with world.controller(*EVERYTHING) as controller:
        im = controller.connect("im")
        await asyncio.sleep(200)
        assert world.engine.phase() is Phase.RUNNING
        assert im.pushed == []
        world.oned.set(VM, lcm_state=RUNNING)
        await controller.until(lambda: power_of(controller) is Power.RUNNING, seconds=100)
        await controller.until(lambda: im.pushed != [], seconds=100)
        assert said_of(im.pushed[0]) == {VM: "RUNNING"}


async def test_a_vm_that_cannot_be_adopted_harms_no_other(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link, VM, 1)
        await controller.deploy(link, STRANGER, 2)
    lose_journal(world)
    world.oned.set(VM, attributes={**PLAIN, "CPU": "nonsense"})
    async with world.controller(*EVERYTHING) as controller:
        im = controller.connect("im")
        await asyncio.sleep(200)
        assert power_of(controller, STRANGER) is Power.RUNNING
        assert power_of(controller) is None
        assert im.pushed == []  # a list without it would power it off
        assert world.engine.phase() is Phase.RUNNING


async def test_an_orphan_goes_after_the_grace(world: World) -> None:
    await running_vm(world)
    lose_journal(world)
    world.oned.remove(VM)
    async with world.controller(*EVERYTHING) as controller:
        await asyncio.sleep(GRACE_S - 70)
        assert world.engine.phase() is Phase.RUNNING
        await controller.until(lambda: world.engine.containers == {}, seconds=200)
        await controller.until(lambda: world.networks.networks == {})
        await asyncio.sleep(100)
        assert len(controller.registry) == 0


async def test_an_orphan_stays_while_oned_does_not_answer(world: World) -> None:
    await running_vm(world)
    lose_journal(world)
    world.oned.remove(VM)
    world.oned.reachable = False
    async with world.controller(*EVERYTHING):
        await asyncio.sleep(10 * GRACE_S)
        assert world.engine.phase() is Phase.RUNNING


@pytest.mark.parametrize("journal", ["kept", "lost"])
async def test_a_vm_that_only_the_pool_does_not_show_is_left_alone(world: World, journal: str) -> None:
    await running_vm(world)
    if journal == "lost":
        lose_journal(world)
    world.oned.pool_hides.add(VM)
    async with world.controller(*EVERYTHING):
        await asyncio.sleep(10 * GRACE_S)
        assert world.engine.phase() is Phase.RUNNING


async def test_a_known_vm_that_is_over_goes_after_the_grace(world: World) -> None:
    await running_vm(world)
    world.oned.set(VM, state=DONE, lcm_state=0)
    async with world.controller(*EVERYTHING) as controller:
        await asyncio.sleep(GRACE_S - 70)
        assert world.engine.phase() is Phase.RUNNING
        await controller.until(lambda: world.engine.containers == {}, seconds=200)
        await asyncio.sleep(100)
        assert len(controller.registry) == 0
        assert (await controller.journal.load()).desired == ()


async def test_a_namespace_alone_is_an_orphan_too(world: World) -> None:
    await world.networks.ensure(vm_spec(STRANGER).network)
    async with world.controller(*EVERYTHING) as controller:
        await asyncio.sleep(GRACE_S - 70)
        assert list(world.networks.networks) == [STRANGER]
        await controller.until(lambda: world.networks.networks == {}, seconds=200)


async def test_foreign_containers_are_never_orphans(world: World) -> None:
    foreign = world.engine.add_foreign(f"one-{VM}")
    async with world.controller(*EVERYTHING):
        await asyncio.sleep(10 * GRACE_S)
        assert list(world.engine.containers) == [foreign]


async def test_a_death_that_no_event_told_is_found(world: World) -> None:
    await running_vm(world)
    async with world.controller(*EVERYTHING) as controller:
        controller.connect()
        im = controller.connect("im")
        await asyncio.sleep(130)
        world.engine.exit(VM, exit_code=1)
        await controller.until(lambda: any(said_of(text) == {VM: "POWEROFF"} for text in im.pushed), seconds=100)


async def test_a_node_that_does_not_answer_gets_no_list(world: World) -> None:
    await running_vm(world)
    async with world.controller(*EVERYTHING) as controller:
        im = controller.connect("im")
        await controller.until(lambda: len(im.pushed) > 0)
        assert controller.nodes.node.host_id == 1
        assert controller.nodes.node.listed_at > 0
        world.engine.reachable = False
        await asyncio.sleep(100)
        pushed = len(im.pushed)
        await asyncio.sleep(600)
        assert len(im.pushed) == pushed
        assert controller.nodes.node.listed_at == 0
        assert power_of(controller) is Power.RUNNING


async def test_a_full_list_is_sent_with_every_comparison(world: World) -> None:
    await running_vm(world)
    async with world.controller(*EVERYTHING) as controller:
        im = controller.connect("im")
        await asyncio.sleep(600)
        assert 9 <= len(im.pushed) <= 13
        assert all("SYNC_STATE=yes" in text and said_of(text) == {VM: "RUNNING"} for text in im.pushed)
        assert controller.resync.last_success > 0


async def test_records_of_vms_that_came_and_went_are_not_kept(world: World) -> None:
    async with world.controller(*EVERYTHING) as controller:
        for n in range(20):
            world.oned.set(VmId(25100 + n), state=ACTIVE, lcm_state=1)
        await asyncio.sleep(100)
        assert len(controller.registry) == 20
        for n in range(20):
            world.oned.remove(VmId(25100 + n))
        await asyncio.sleep(100)
        assert len(controller.registry) == 0


async def test_what_the_journal_wants_is_made_so_without_oned(world: World) -> None:
    async with world.controller() as controller:
        await controller.registry.want(running(vm_spec(instance="25001-1000")))
        await world.engine.pull(vm_spec().container.image)
        await world.engine.create(VM, instance="25001-1000", spec=vm_spec().container)
    world.oned.set(VM, state=ACTIVE, lcm_state=RUNNING, node=NODE)
    world.oned.reachable = False
    async with world.controller(*EVERYTHING) as controller:
        await controller.until(lambda: world.engine.phase() is Phase.RUNNING)
        assert list(world.networks.networks) == [VM]
