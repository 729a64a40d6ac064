"""Passes: requests are done, retried until their deadline, and what happens from outside is taken over."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.fakes import BROKEN_COMMAND
from tests.support.machinery import (
    BOOT,
    BOOT_POWEROFF,
    RUNNING,
    SHUTDOWN_POWEROFF,
    Machinery,
    RecordingLink,
    World,
    said_of,
)
from tests.support.specs import NODE, VM
from tests.support.vm_xml import PLAIN, ROOT_DISK, request_xml

from onedock.controller.intents import Channel, NewIntent
from onedock.reconcilers.model import Phase, Power

pytestmark = pytest.mark.looptime


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.oned.set(VM, state=3, lcm_state=BOOT)
    return made


async def answered(controller: Machinery, link: RecordingLink, count: int) -> str:
    """The newest of so many answers, confirmed."""
    await controller.until(lambda: len(link.answers) >= count)
    await controller.confirm(link)
    return link.answers[-1]


async def test_a_deploy_makes_a_container_in_its_network(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.ask(link, 1, "DEPLOY")
        assert await answered(controller, link, 1) == f"DEPLOY SUCCESS {VM} one-{VM}"
        container = world.engine.of()
        assert container is not None
        assert container.phase is Phase.RUNNING
        assert container.instance == "25001-1000"
        assert world.networks.bindings[VM] == (container.id,)
        desired = controller.record().desired
        assert desired is not None
        assert (await controller.journal.load()).desired == (desired,)
        assert controller.record().conditions["Running"].ok


async def test_the_images_own_command_is_asked_of_oned(world: World) -> None:
    world.oned.image = {"DOCKERRUN": "nginx -g 'daemon off;'"}
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.ask(link, 1, "DEPLOY")
        await answered(controller, link, 1)
        (spec,) = world.engine.specs.values()
        assert spec.command == ("nginx", "-g", "daemon off;")


async def test_what_can_never_work_fails_at_once_and_leaves_nothing(world: World) -> None:
    world.oned.set(VM, user={"DOCKERRUN": BROKEN_COMMAND})
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        began = asyncio.get_running_loop().time()
        await controller.ask(link, 1, "DEPLOY")
        answer = await answered(controller, link, 1)
        assert asyncio.get_running_loop().time() - began < 1
        assert answer.startswith(f"DEPLOY FAILURE {VM} the command")
        await asyncio.sleep(5)
        assert world.engine.containers == {}
        assert world.networks.networks == {}


async def test_a_template_that_makes_no_sense_fails_with_its_reason(world: World) -> None:
    world.oned.set(VM, attributes={**PLAIN, "MEMORY": "lots"})
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.ask(link, 1, "DEPLOY")
        assert await answered(controller, link, 1) == f"DEPLOY FAILURE {VM} MEMORY is not a number: 'lots'"
        assert world.engine.containers == {}
        assert (await controller.journal.load()).intents == ()


async def test_a_host_that_is_no_node_fails(world: World) -> None:
    world.oned.set(VM, node="node9")
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        line = request_xml(world.oned.xml(VM), host="node9")
        await controller.journal.accept(NewIntent("x", Channel.VMM, "DEPLOY", VM, NODE, line, time.time(), BOOT, 0))
        await controller.restore()
        assert "is no node of ONEDock" in await answered(controller, link, 1)


async def test_an_engine_that_is_away_is_tried_again(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        world.engine.reachable = False
        await controller.ask(link, 1, "DEPLOY")
        await asyncio.sleep(60)
        assert link.answers == []
        assert "cannot be reached" in controller.record().error
        assert controller.record().retry_in_s > 0
        world.engine.reachable = True
        assert await answered(controller, link, 1) == f"DEPLOY SUCCESS {VM} one-{VM}"
        await asyncio.sleep(1)
        assert controller.record().error == ""


async def old_request(controller: Machinery, action: str, age_s: float) -> None:
    """A request that came some time ago; virtual time is not the clock's."""
    xml = request_xml(controller.oned.xml(VM))
    state = {"DEPLOY": BOOT, "SHUTDOWN": SHUTDOWN_POWEROFF}[action]
    new = NewIntent(f"old:{action}", Channel.VMM, action, VM, NODE, xml, time.time() - age_s, state, 0)
    intent = await controller.journal.accept(new)
    assert intent is not None
    controller.record().intents.append(intent)
    controller.queue.add(VM)


async def test_past_its_deadline_a_request_fails_with_the_last_reason(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="old")
        world.engine.reachable = False
        await old_request(controller, "DEPLOY", 301)
        answer = await answered(controller, link, 1)
        assert answer == f"DEPLOY FAILURE {VM} the engine cannot be reached: fake"
        world.engine.reachable = True
        await asyncio.sleep(60)
        assert world.engine.containers == {}


async def test_an_unforeseen_error_meets_the_deadline_too(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="old")
        world.oned.image = None  # type: ignore[assignment]  # a bug somewhere
        await controller.ask(link, 1, "DEPLOY")
        await asyncio.sleep(1)
        assert link.answers == []
        assert controller.record().error.startswith("AttributeError")
        controller.record().intents.clear()
        await old_request(controller, "DEPLOY", 301)
        assert (await answered(controller, link, 1)).startswith(f"DEPLOY FAILURE {VM} AttributeError")


async def test_a_poweroff_that_fails_leaves_the_vm_running(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="old")
        await controller.deploy(link)
        world.oned.set(VM, lcm_state=SHUTDOWN_POWEROFF)
        world.engine.reachable = False
        await old_request(controller, "SHUTDOWN", 301)
        assert (await answered(controller, link, 2)).startswith("SHUTDOWN FAILURE")
        world.engine.reachable = True
        await asyncio.sleep(60)
        assert world.engine.phase() is Phase.RUNNING
        desired = controller.record().desired
        assert desired is not None
        assert desired.power is Power.RUNNING


async def test_a_start_that_fails_keeps_what_was_there(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.oned.set(VM, lcm_state=SHUTDOWN_POWEROFF)
        await controller.ask(link, 2, "SHUTDOWN")
        await answered(controller, link, 2)
        before = world.engine.of()
        world.oned.set(VM, lcm_state=BOOT_POWEROFF, attributes={**PLAIN, "MEMORY": "x"})
        await controller.ask(link, 3, "DEPLOY")
        assert (await answered(controller, link, 3)).startswith("DEPLOY FAILURE")
        await asyncio.sleep(60)
        after = world.engine.of()
        assert before is not None
        assert after is not None
        assert after.id == before.id
        assert world.networks.networks == {}


async def test_a_container_that_dies_is_told_and_not_restarted(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        vmm, im = controller.connect(), controller.connect("im")
        controller.nodes.node.host_id = 1
        await controller.deploy(vmm)
        world.engine.exit(VM, exit_code=3)
        controller.queue.add(VM)
        await controller.until(lambda: len(im.pushed) > 0)
        assert said_of(im.pushed[0]) == {VM: "POWEROFF"}
        assert any("exit code 3" in line for line in vmm.lines if line.startswith("LOG I"))
        world.oned.set(VM, state=8, lcm_state=0)
        await asyncio.sleep(100)
        assert world.engine.starts == 1
        assert world.networks.networks == {}
        running = controller.record().conditions["Running"]
        assert (running.ok, running.reason) == (False, "Exited")


async def test_what_somebody_pauses_stays_paused(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        vmm, im = controller.connect(), controller.connect("im")
        controller.nodes.node.host_id = 1
        await controller.deploy(vmm)
        world.engine.pause(VM)
        controller.queue.add(VM)
        await controller.until(lambda: len(im.pushed) > 0)
        assert said_of(im.pushed[0]) == {VM: "SUSPENDED"}
        world.oned.set(VM, state=5, lcm_state=0)
        await asyncio.sleep(60)
        assert world.engine.phase() is Phase.PAUSED
        world.oned.set(VM, state=3, lcm_state=21, seq=1)
        await controller.ask(vmm, 2, "RESTORE")
        assert (await answered(controller, vmm, 2)).startswith("RESTORE SUCCESS")
        assert world.engine.phase() is Phase.RUNNING


async def test_what_somebody_removes_is_said_once(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        vmm, im = controller.connect(), controller.connect("im")
        controller.nodes.node.host_id = 1
        await controller.deploy(vmm)
        world.engine.containers.clear()
        world.oned.set(VM, state=8, lcm_state=0)
        for _ in range(5):
            controller.queue.add(VM)
            await asyncio.sleep(10)
        assert len([line for line in vmm.lines if "removed by hand" in line]) == 1
        assert len(im.pushed) == 1
        world.oned.set(VM, state=3, lcm_state=BOOT_POWEROFF, seq=1)
        await controller.ask(vmm, 2, "DEPLOY")
        await answered(controller, vmm, 2)
        assert world.engine.phase() is Phase.RUNNING


async def test_a_reboot_of_what_somebody_froze_thaws_and_restarts(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.engine.pause(VM)
        controller.queue.add(VM)
        await controller.until(lambda: controller.record().desired == _with_power(controller, Power.SUSPENDED))
        await controller.ask(link, 2, "REBOOT")
        await controller.until(lambda: world.engine.starts == 2)
        await asyncio.sleep(60)
        assert world.engine.phase() is Phase.RUNNING
        desired = controller.record().desired
        assert desired is not None
        assert (desired.power, desired.restart_from) == (Power.RUNNING, None)


def _with_power(controller: Machinery, power: Power) -> object:
    desired = controller.record().desired
    return replace(desired, power=power) if desired is not None else None


async def test_a_reboot_of_a_vm_that_does_not_run_does_nothing(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.engine.exit(VM)
        await controller.ask(link, 2, "RESET")
        await asyncio.sleep(60)
        assert world.engine.starts == 1
        assert list(controller.record().intents) == []


@pytest.mark.parametrize("moments", range(0, 120, 4))
async def test_a_controller_that_dies_at_any_moment_of_a_life(world: World, moments: int) -> None:
    """Deploy, reboot and poweroff end with one container, one restart at most, and one answer each."""
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
    first = world.engine.of()
    assert first is not None
    answers: list[str] = []
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.ask(link, 2, "REBOOT")
        for _ in range(moments):
            await asyncio.sleep(0)
        if len(link.answers) > 0:
            answers += link.answers
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await asyncio.sleep(60)
        assert world.engine.starts == 2
        assert world.engine.phase() is Phase.RUNNING
        assert len(world.engine.containers) == 1
        assert link.answers == []
        assert (await controller.journal.load()).intents == ()


@pytest.mark.parametrize("moments", range(0, 120, 4))
async def test_a_deploy_cut_at_any_moment_is_finished_by_the_next_controller(world: World, moments: int) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.ask(link, 1, "DEPLOY")
        for _ in range(moments):
            await asyncio.sleep(0)
        before = list(link.answers)
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="second")
        await controller.until(lambda: len(link.answers) == 1)
        await controller.confirm(link)
        await asyncio.sleep(60)
        assert link.answers == [f"DEPLOY SUCCESS {VM} one-{VM}"]
        assert before in ([], link.answers)  # written, but not confirmed: oned still waits, so it is said again
        assert len(world.engine.containers) == 1
        assert world.engine.starts == 1
        assert world.engine.pulls == 1
        assert len(world.networks.networks) == 1


async def test_a_vm_that_is_gone_leaves_no_record(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.oned.set(VM, lcm_state=15)
        await controller.ask(link, 2, "CLEANUP")
        await answered(controller, link, 2)
        await asyncio.sleep(10)
        assert len(controller.registry) == 0
        contents = await controller.journal.load()
        assert (contents.desired, contents.conditions) == ((), ())


async def test_a_full_disk_delays_and_loses_nothing(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        world.engine.free.clear()
        await controller.ask(link, 1, "DEPLOY")
        await controller.until(lambda: world.engine.phase() is Phase.CREATED)
        controller.journal.full = True
        world.engine.free.set()
        await asyncio.sleep(60)
        assert link.answers == []
        assert world.engine.phase() is Phase.RUNNING
        controller.journal.full = False
        assert await answered(controller, link, 1) == f"DEPLOY SUCCESS {VM} one-{VM}"
        assert world.engine.starts == 1


async def test_another_vm_with_the_same_id_replaces_the_left_over(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        await controller.deploy(controller.connect())
    old = world.engine.of()
    world.path.unlink()
    for more in world.path.parent.glob("journal.sqlite-*"):
        more.unlink()
    world.oned.set(VM, lcm_state=BOOT, stime=5000, disks=(ROOT_DISK,))
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="second")
        await controller.ask(link, 1, "DEPLOY")
        await answered(controller, link, 1)
        new = world.engine.of()
        assert old is not None
        assert new is not None
        assert new.id != old.id
        assert new.instance == "25001-5000"
        assert len(world.engine.containers) == 1


async def test_running_is_what_the_document_says_it_is(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.oned.set(VM, lcm_state=BOOT_POWEROFF, attributes={"CPU": "2", "MEMORY": "128"})
        await controller.ask(link, 2, "DEPLOY")
        await answered(controller, link, 2)
        container = world.engine.of()
        assert container is not None
        assert container.limits == (2048, 200_000, 128 << 20, 4096)
        assert world.engine.starts == 1
        world.oned.set(VM, lcm_state=RUNNING)
