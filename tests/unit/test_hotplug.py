"""Networks that change under a running VM: its container goes on, failures leave everything as it was."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.machinery import RUNNING, SHUTDOWN_POWEROFF, Machinery, RecordingLink, World
from tests.support.specs import VM
from tests.support.vm_xml import BRIDGED, element, vm_xml, vmm_line

from onedock.controller.intents import Channel, NewIntent
from onedock.reconcilers.model import Desired, NodeName, Phase, Power

pytestmark = pytest.mark.looptime

HOTPLUG, HOTPLUG_NIC = 17, 25
FIRST = dict(BRIDGED)
SECOND = FIRST | {
    "NIC_ID": "1", "NETWORK": "storage", "BRIDGE": "onebr1", "MAC": "02:00:0a:00:01:0a", "IP": "10.0.1.10",
    "TARGET": "one-25001-1",
}  # fmt: skip
ALIAS = {"NIC_ID": "2", "PARENT_ID": "0", "ALIAS_ID": "0", "IP": "10.0.0.77", "VN_MAD": "bridge"}
MARK = {"ATTACH": "YES"}
GROUP = element("SECURITY_GROUP_ID", "105")
NETWORK = element("VIRTUAL_NETWORK_ID", "7")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.oned.set(VM, state=3, lcm_state=2)
    return made


def plugged(world: World) -> dict[int, tuple[str, ...]]:
    """NIC_ID → addresses, as on the node."""
    network = world.networks.networks.get(VM)
    return {} if network is None else {nic.index: nic.addresses for nic in network.nics}


async def answered(controller: Machinery, link: RecordingLink, seq: int, action: str, extra: str = "") -> str:
    """Ask for something, and give the confirmed answer."""
    before = len(link.answers)
    await controller.ask(link, seq, action, extra=extra)
    await controller.until(lambda: len(link.answers) > before)
    await controller.confirm(link)
    return link.answers[-1]


def wanted(controller: Machinery) -> Desired:
    desired = controller.record().desired
    assert desired is not None
    assert desired.spec is not None
    return desired


async def test_attach_and_detach(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        before, generation = world.engine.of(), wanted(controller).generation
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, nics=(FIRST, SECOND | MARK))
        assert await answered(controller, link, 2, "ATTACHNIC") == f"ATTACHNIC SUCCESS {VM} -"
        assert plugged(world) == {0: ("10.0.0.10/24",), 1: ("10.0.1.10/24",)}
        assert wanted(controller).generation == generation + 1
        assert (await controller.journal.load()).desired == (controller.record().desired,)
        assert controller.record().conditions["Network"].reason == "Changed"
        assert await answered(controller, link, 3, "DETACHNIC") == f"DETACHNIC SUCCESS {VM} -"
        assert plugged(world) == {0: ("10.0.0.10/24",)}
        await asyncio.sleep(60)
        assert world.engine.of() == before
        assert world.engine.starts == 1


async def test_an_alias_comes_and_goes(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, aliases=(ALIAS | MARK,))
        assert await answered(controller, link, 2, "ATTACHNIC") == f"ATTACHNIC SUCCESS {VM} -"
        assert plugged(world) == {0: ("10.0.0.10/24", "10.0.0.77/24")}
        await answered(controller, link, 3, "DETACHNIC")
        assert plugged(world) == {0: ("10.0.0.10/24",)}


@pytest.mark.parametrize(
    ("action", "extra", "said"),
    [("UPDATENIC", NETWORK, "7 -"), ("UPDATESG", GROUP, "105 -"), ("UPDATESG", "", "2147483647 -")],
)
async def test_updates_answer_with_their_id(world: World, action: str, extra: str, said: str) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.oned.set(VM, nics=(FIRST | {"MTU": "1400"},))
        for seq in (2, 3):  # the same twice is no harm
            assert await answered(controller, link, seq, action, extra) == f"{action} SUCCESS {VM} {said}"
            assert world.networks.networks[VM].nics[0].mtu == 1400


async def test_a_new_context_changes_the_network_and_not_the_container(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        before = wanted(controller)
        world.oned.set(VM, lcm_state=HOTPLUG, context={"ETH0_MASK": "255.255.0.0", "ETH0_DNS": "10.0.0.53", "A": "1"})
        assert await answered(controller, link, 2, "UPDATECONF") == f"UPDATECONF SUCCESS {VM} -"
        assert plugged(world) == {0: ("10.0.0.10/16",)}
        assert world.networks.networks[VM].nics[0].dns == ("10.0.0.53",)
        assert before.spec is not None
        assert wanted(controller).spec == replace(before.spec, network=world.networks.networks[VM])
        assert len([line for line in link.lines if line.startswith(f"LOG I {VM} ONEDock: the network follows")]) == 1
        assert world.engine.starts == 1


@pytest.mark.parametrize(
    ("action", "extra", "said"),
    [
        ("UPDATECONF", "", ""),
        ("ATTACHNIC", "", ""),
        ("DETACHNIC", "", ""),
        ("UPDATENIC", NETWORK, "7 "),
        ("UPDATESG", GROUP, "105 "),
    ],
)
async def test_a_failure_leaves_everything_as_it_was(world: World, action: str, extra: str, said: str) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        before = wanted(controller)
        world.networks.unusable_devices.add("onebr1")
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, nics=(FIRST | {"IP": "10.0.0.11"}, SECOND))
        answer = await answered(controller, link, 2, action, extra)
        assert answer == f"{action} FAILURE {VM} {said}the device onebr1 cannot be used"
        await asyncio.sleep(60)
        assert controller.record().desired == before
        assert plugged(world) == {0: ("10.0.0.10/24",)}
        condition = controller.record().conditions["Network"]
        assert (condition.ok, condition.message) == (False, "the device onebr1 cannot be used")
        assert world.engine.starts == 1


async def test_what_was_half_plugged_is_gone_before_oned_hears_of_the_failure(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        wrong = wanted(controller)
        assert wrong.spec is not None
        nic = replace(wrong.spec.network.nics[0], index=1, name="eth1")
        world.networks.networks[VM] = replace(wrong.spec.network, nics=(*wrong.spec.network.nics, nic))
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, nics=(FIRST, SECOND | MARK | {"VN_MAD": "elastic"}))
        answer = await answered(controller, link, 2, "ATTACHNIC")
        assert answer.startswith(f"ATTACHNIC FAILURE {VM} NIC 1")
        assert list(plugged(world)) == [0]


async def test_an_agent_that_is_away_is_tried_again(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.networks.reachable = False
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, nics=(FIRST, SECOND | MARK))
        await controller.ask(link, 2, "ATTACHNIC")
        await asyncio.sleep(60)
        assert len(link.answers) == 1
        world.networks.reachable = True
        await controller.until(lambda: len(link.answers) == 2)
        assert list(plugged(world)) == [0, 1]


async def test_changes_that_come_together_are_done_in_their_order(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.networks.reachable = False
        for seq, mtu in ((2, "1300"), (3, "1400")):
            world.oned.set(VM, lcm_state=RUNNING, nics=(FIRST, SECOND | {"MTU": mtu}))
            await controller.ask(link, seq, "UPDATESG", extra=element("SECURITY_GROUP_ID", str(seq)))
        await asyncio.sleep(5)
        world.networks.reachable = True
        await controller.until(lambda: len(link.answers) == 3)
        assert {line.split()[3] for line in link.answers[1:]} == {"2", "3"}
        assert [nic.mtu for nic in world.networks.networks[VM].nics] == [None, 1400]


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("usable", [True, False])
async def test_what_recover_has_given_up_is_no_answer_to_the_next_request(
    world: World, slow: bool, usable: bool
) -> None:
    """oned takes any ATTACHNIC for the one that it waits for: the old one's would end the new one."""
    third = SECOND | {"NIC_ID": "2", "BRIDGE": "onebr2", "TARGET": "one-25001-2"}
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.networks.reachable, world.networks.delay_s = slow, 5.0 if slow else 0.0
        if not usable:
            world.networks.unusable_devices.add("onebr1")
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, seq=1, nics=(FIRST, SECOND | MARK))
        await controller.ask(link, 2, "ATTACHNIC")
        await asyncio.sleep(1)
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, seq=2, nics=(FIRST, third | MARK))
        await controller.ask(link, 3, "ATTACHNIC")
        world.networks.reachable = True
        await controller.until(lambda: len(link.answers) == 2)
        assert link.answers[1] == f"ATTACHNIC SUCCESS {VM} -"
        assert plugged(world) == {0: ("10.0.0.10/24",), 2: ("10.0.1.10/24",)}
        await controller.confirm(link)
        await asyncio.sleep(10)
        assert len(link.answers) == 2


async def test_a_change_that_recover_has_ended_while_its_driver_held_it_is_not_made(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        link.since = time.time()
        line = vmm_line("ATTACHNIC", vm_xml(VM, state=3, lcm_state=HOTPLUG_NIC, nics=(FIRST, SECOND | MARK)))
        await controller.send(link, (2, line))
        await asyncio.sleep(10)
        assert len(link.answers) == 1
        assert list(plugged(world)) == [0]


@pytest.mark.parametrize("success", [True, False])
async def test_a_change_that_recover_has_ended_is_as_oned_says(world: World, success: bool) -> None:
    async with world.controller("worker", "delivery", "resync") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.networks.reachable = False
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, seq=1, nics=(FIRST, SECOND | MARK))
        await controller.ask(link, 2, "ATTACHNIC")
        await asyncio.sleep(1)
        world.oned.set(VM, lcm_state=RUNNING, nics=(FIRST, SECOND) if success else (FIRST,))
        world.networks.reachable = True
        await asyncio.sleep(10)
        assert len(link.answers) == 1
        assert list(plugged(world)) == ([0, 1] if success else [0])
        assert (await controller.journal.load()).intents == ()


async def test_past_the_deadline_the_id_still_comes_first(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="old")
        await controller.deploy(link)
        world.networks.reachable = False
        xml = f"<VMM_DRIVER_ACTION_DATA><HOST>node1</HOST>{GROUP}{world.oned.xml(VM)}</VMM_DRIVER_ACTION_DATA>"
        new = NewIntent("old:9", Channel.VMM, "UPDATESG", VM, NodeName("node1"), xml, time.time() - 301, RUNNING, 0)
        intent = await controller.journal.accept(new)
        assert intent is not None
        controller.record().intents.append(intent)
        controller.queue.add(VM)
        await controller.until(lambda: len(link.answers) == 2)
        assert link.answers[1] == f"UPDATESG FAILURE {VM} 105 the agent cannot be reached: fake"
        world.networks.reachable = True
        await asyncio.sleep(60)
        assert plugged(world) == {0: ("10.0.0.10/24",)}


async def test_a_vm_that_died_is_not_started(world: World) -> None:
    async with world.controller("worker", "delivery", "reporter") as controller:
        vmm, im = controller.connect(), controller.connect("im")
        controller.nodes.node.host_id = 1
        await controller.deploy(vmm)
        world.engine.exit(VM, exit_code=3)
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, nics=(FIRST, SECOND | MARK))
        assert await answered(controller, vmm, 2, "ATTACHNIC") == f"ATTACHNIC SUCCESS {VM} -"
        world.oned.set(VM, lcm_state=RUNNING)
        await controller.until(lambda: len(im.pushed) > 0)
        assert world.engine.starts == 1
        assert plugged(world) == {}
        assert wanted(controller).power is Power.STOPPED
        assert len(wanted(controller).spec.network.nics) == 2  # type: ignore[union-attr]


async def test_a_powered_off_vm_only_remembers(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.oned.set(VM, lcm_state=SHUTDOWN_POWEROFF)
        await answered(controller, link, 2, "SHUTDOWN")
        world.oned.set(VM, lcm_state=65, nics=(FIRST, SECOND | MARK))
        assert await answered(controller, link, 3, "ATTACHNIC") == f"ATTACHNIC SUCCESS {VM} -"
        await asyncio.sleep(60)
        assert world.engine.phase() is Phase.EXITED
        assert plugged(world) == {}
        assert len(wanted(controller).spec.network.nics) == 2  # type: ignore[union-attr]


async def test_of_a_frozen_vm_the_network_changes_and_nothing_else(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.engine.pause(VM)
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, nics=(FIRST, SECOND | MARK))
        await answered(controller, link, 2, "ATTACHNIC")
        await answered(controller, link, 3, "DETACHNIC")
        assert list(plugged(world)) == [0]
        assert world.engine.phase() is Phase.PAUSED


async def test_a_file_that_stays_is_told_of(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, nics=(FIRST, SECOND | MARK))
        await answered(controller, link, 2, "ATTACHNIC")
        assert not [line for line in link.lines if "/etc/hosts" in line]
        world.oned.set(VM, nics=(FIRST | MARK, SECOND))
        await answered(controller, link, 3, "DETACHNIC")
        (note,) = [line for line in link.lines if "/etc/hosts" in line]
        assert note.startswith(f"LOG I {VM} ONEDock:")


async def test_what_does_nothing_is_said_once(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, nics=(FIRST, SECOND | MARK | {"SECURITY_GROUPS": "0,105"}))
        await answered(controller, link, 2, "ATTACHNIC")
        await answered(controller, link, 3, "UPDATESG", GROUP)
        (note,) = [line for line in link.lines if "do nothing" in line]
        assert note.startswith(f"LOG W {VM} ONEDock: NIC 1")


async def test_a_lost_journal_is_no_obstacle(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        await controller.deploy(controller.connect())
    before = world.engine.of()
    for file in world.path.parent.glob("journal.sqlite*"):
        file.unlink()
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="second")
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, nics=(FIRST, SECOND | MARK))
        assert await answered(controller, link, 1, "ATTACHNIC") == f"ATTACHNIC SUCCESS {VM} -"
        assert list(plugged(world)) == [0, 1]
        assert world.engine.of() == before


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("moments", range(0, 80, 4))
async def test_a_controller_that_dies_at_any_moment(world: World, moments: int, fails: bool) -> None:
    """The next one finishes, or falls back to what was before the first one began."""
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        before = wanted(controller)
        world.oned.set(VM, lcm_state=HOTPLUG_NIC, nics=(FIRST, SECOND | MARK))
        await controller.ask(link, 2, "ATTACHNIC")
        for _ in range(moments):
            await asyncio.sleep(0)
        done = len(link.answers) > 1
    if fails and not done:
        world.networks.unusable_devices.add("onebr1")
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="second")
        await controller.until(lambda: len(link.answers) == 1)
        await controller.confirm(link)
        await asyncio.sleep(60)
        outcome = link.answers[0].split()[1]
        assert list(plugged(world)) == ([0, 1] if outcome == "SUCCESS" else [0])
        if outcome == "FAILURE":
            assert wanted(controller) == before
        assert world.engine.starts == 1
        assert (await controller.journal.load()).intents == ()


async def test_a_group_that_waited_for_the_next_controller_does_not_bring_an_old_network_back(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        world.networks.reachable = False
        await controller.ask(link, 2, "UPDATESG", extra=GROUP)
        await asyncio.sleep(1)
    world.networks.reachable = True
    world.oned.set(VM, nics=(FIRST, SECOND), seq=7)
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="second")
        await controller.until(lambda: len(link.answers) == 1)
        assert link.answers[0] == f"UPDATESG SUCCESS {VM} 105 -"
        assert list(plugged(world)) == [0, 1]
