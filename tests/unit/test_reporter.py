"""States pushed to oned: at once, until it agrees, and never one VM too few in a list."""

import asyncio
import time
from pathlib import Path

import pytest
from tests.support.machinery import ACTIVE, BOOT, RUNNING, SHUTDOWN_POWEROFF, Machinery, RecordingLink, World, said_of
from tests.support.specs import NODE, VM
from tests.support.vm_xml import parsed, vm_xml

from onedock.controller.reporter import agrees
from onedock.reconcilers.model import Desired, Power, VmId

pytestmark = pytest.mark.looptime
OTHERS = [VmId(25010), VmId(25011)]
POWEROFF, SUSPENDED, UNKNOWN = 8, 5, 16


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def three_running(controller: Machinery) -> tuple[RecordingLink, RecordingLink]:
    """Three VMs on a node that was compared with oned; links to both drivers."""
    vmm, im = controller.connect(), controller.connect("im")
    for seq, vm in enumerate([VM, *OTHERS]):
        await controller.deploy(vmm, vm, seq)
    controller.nodes.node.host_id = 1
    controller.nodes.node.listed_at = time.time()
    await asyncio.sleep(5)
    return vmm, im


async def dies(controller: Machinery, *, guarded: bool) -> None:
    controller.record().guard_until = time.time() + (1000 if guarded else -1000)
    controller.engine.exit(VM)
    controller.queue.add(VM)


async def test_outside_of_the_guard_the_state_of_the_one_vm_is_pushed(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        _, im = await three_running(controller)
        began = asyncio.get_running_loop().time()
        await dies(controller, guarded=False)
        await controller.until(lambda: len(im.pushed) == 1)
        assert asyncio.get_running_loop().time() - began < 0.1
        assert said_of(im.pushed[0]) == {VM: "POWEROFF"}
        assert "SYNC_STATE" not in im.pushed[0]
        assert im.lines[0].startswith("STATE_VM SUCCESS 1 ")


async def test_inside_of_the_guard_a_full_list_without_the_vm_is_pushed(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        _, im = await three_running(controller)
        await dies(controller, guarded=True)
        await controller.until(lambda: len(im.pushed) == 1)
        assert said_of(im.pushed[0]) == dict.fromkeys(OTHERS, "RUNNING")
        assert "SYNC_STATE=yes" in im.pushed[0]
        assert 'MISSING_STATE="POWEROFF"' in im.pushed[0]


async def test_inside_of_the_guard_without_a_complete_picture_only_the_vm_is_named(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        _, im = await three_running(controller)
        controller.nodes.node.listed_at = 0.0
        await dies(controller, guarded=True)
        await controller.until(lambda: len(im.pushed) == 1)
        assert said_of(im.pushed[0]) == {VM: "POWEROFF"}
        assert "SYNC_STATE" not in im.pushed[0]


async def test_vms_in_transition_are_never_missing_in_a_list(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        vmm, im = await three_running(controller)
        stopping, starting = OTHERS[0], VmId(25012)
        controller.engine.free.clear()
        world.oned.set(starting, state=ACTIVE, lcm_state=BOOT)
        await controller.ask(vmm, 10, "DEPLOY", starting)
        world.oned.set(stopping, lcm_state=SHUTDOWN_POWEROFF)
        controller.engine.reachable = False
        await controller.ask(vmm, 11, "SHUTDOWN", stopping)
        await asyncio.sleep(1)
        controller.reporter.send_full_list(controller.nodes.node)
        assert said_of(im.pushed[-1]) == {
            VM: "RUNNING", OTHERS[1]: "RUNNING", stopping: "UNKNOWN", starting: "UNKNOWN",
        }  # fmt: skip
        assert "SYNC_STATE=yes" in im.pushed[-1]


async def test_stopped_and_frozen_vms_are_listed_as_what_they_are(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        vmm, im = await three_running(controller)
        world.oned.set(VM, lcm_state=SHUTDOWN_POWEROFF)
        await controller.ask(vmm, 10, "SHUTDOWN")
        await controller.until(lambda: vmm.answers[-1].startswith("SHUTDOWN"))
        controller.reporter.send_full_list(controller.nodes.node)
        assert said_of(im.pushed[-1])[VM] == "UNKNOWN", "oned must not take it for dead before it gets its answer"
        await controller.confirm(vmm)
        await controller.registry.want(Desired(OTHERS[0], NODE, Power.SUSPENDED))
        controller.reporter.send_full_list(controller.nodes.node)
        assert said_of(im.pushed[-1]) == {OTHERS[0]: "SUSPENDED", OTHERS[1]: "RUNNING"}


async def test_a_state_is_pushed_until_oned_agrees(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        _, im = await three_running(controller)
        await dies(controller, guarded=False)
        await asyncio.sleep(40)
        assert 3 < len(im.pushed) < 12
        assert {tuple(said_of(text).items()) for text in im.pushed} == {((VM, "POWEROFF"),)}
        world.oned.set(VM, state=POWEROFF, lcm_state=0)
        await asyncio.sleep(20)
        pushed = len(im.pushed)
        await asyncio.sleep(500)
        assert len(im.pushed) == pushed


async def test_a_state_survives_a_silent_oned_and_a_dead_driver(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        _, im = await three_running(controller)
        controller.disconnect(im)
        world.oned.reachable = False
        await dies(controller, guarded=False)
        await asyncio.sleep(100)
        second = controller.connect("im", session="second")
        world.oned.reachable = True
        await controller.until(lambda: len(second.pushed) > 0, seconds=60)
        assert said_of(second.pushed[0]) == {VM: "POWEROFF"}


async def test_the_next_request_of_oned_ends_the_pushing(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        vmm, im = await three_running(controller)
        await dies(controller, guarded=False)
        await controller.until(lambda: len(im.pushed) == 1)
        controller.engine.reachable = False
        world.oned.set(VM, lcm_state=SHUTDOWN_POWEROFF)
        await controller.ask(vmm, 10, "SHUTDOWN")
        await asyncio.sleep(60)
        assert len(im.pushed) == 1


async def test_a_vm_that_is_gone_is_not_pushed(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        _, im = await three_running(controller)
        await dies(controller, guarded=False)
        await controller.until(lambda: len(im.pushed) == 1)
        world.oned.remove(VM)
        await asyncio.sleep(60)
        assert len(im.pushed) == 1


async def test_in_the_guard_oned_is_asked_to_follow_what_somebody_froze(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        await three_running(controller)
        controller.record().guard_until = time.time() + 1000
        controller.engine.pause(VM)
        controller.queue.add(VM)
        await controller.until(lambda: world.oned.asked_for == [(VM, "suspend")])
        world.oned.set(VM, state=SUSPENDED, lcm_state=0)
        await asyncio.sleep(60)
        assert world.oned.asked_for == [(VM, "suspend")]


async def test_the_guard_is_learned_from_documents(world: World) -> None:
    async with world.controller() as controller:
        record = controller.record()
        controller.reporter.note_history(record, parsed(vm_xml(rstime=1000)).history)
        assert record.guard_until == 1031
        controller.reporter.note_history(record, parsed(vm_xml(rstime=0)).history)
        assert record.guard_until == 1031
        controller.reporter.note_history(record, parsed(vm_xml(rstime=900)).history)
        assert record.guard_until == 1031


@pytest.mark.parametrize(
    ("power", "state", "lcm_state", "settled"),
    [
        (Power.STOPPED, ACTIVE, RUNNING, False),
        (Power.STOPPED, ACTIVE, UNKNOWN, False),
        (Power.STOPPED, POWEROFF, 0, True),
        (Power.STOPPED, ACTIVE, SHUTDOWN_POWEROFF, True),
        (Power.RUNNING, ACTIVE, RUNNING, True),
        (Power.RUNNING, ACTIVE, UNKNOWN, False),
        (Power.RUNNING, POWEROFF, 0, False),
        (Power.RUNNING, SUSPENDED, 0, False),
        (Power.RUNNING, 6, 0, True),
        (Power.SUSPENDED, ACTIVE, RUNNING, False),
        (Power.SUSPENDED, SUSPENDED, 0, True),
        (Power.SUSPENDED, ACTIVE, BOOT, True),
    ],
)
def test_when_oned_needs_no_push(power: Power, state: int, lcm_state: int, settled: bool) -> None:
    assert agrees(power, parsed(vm_xml(state=state, lcm_state=lcm_state))) == settled
