"""What oned asks becomes durable, is refused in the words that oned understands, or is cancelled."""

import asyncio
import base64
import json
from pathlib import Path

import pytest
from tests.support.machinery import BOOT, RUNNING, SHUTDOWN_POWEROFF, World
from tests.support.recorded import records, to_vmm
from tests.support.specs import VM
from tests.support.vm_xml import vmm_line

from onedock.controller.intents import Channel
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Phase, Power, VmId

pytestmark = pytest.mark.looptime


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.oned.set(VM, state=3, lcm_state=BOOT)
    return made


async def test_a_request_is_acknowledged_when_it_is_durable(world: World) -> None:
    async with world.controller() as controller:
        link = controller.connect()
        await controller.ask(link, 7, "DEPLOY")
        assert link.acks == [7]
        (intent,) = (await controller.journal.load()).intents
        assert (intent.source, intent.action, intent.vm) == ("first:7", "DEPLOY", VM)
        assert (intent.lcm_state, intent.history_seq, intent.node) == (BOOT, 0, "node1")
        assert len(controller.queue) == 1
    async with world.controller() as controller:
        assert list(controller.record().intents) == [intent]
        assert len(controller.queue) == 1


async def test_a_request_that_cannot_be_durable_is_not_acknowledged(world: World) -> None:
    async with world.controller() as controller:
        link = controller.connect()
        controller.journal.full = True
        with pytest.raises(ExceptionGroup) as caught:
            await controller.ask(link, 7, "DEPLOY")
        assert caught.value.subgroup(TransientError) is not None
        assert link.messages == []
        controller.journal.full = False
        await controller.ask(link, 7, "DEPLOY")
        assert link.acks == [7]
        assert len((await controller.journal.load()).intents) == 1


async def test_a_line_sent_again_is_one_request(world: World) -> None:
    async with world.controller() as controller:
        link = controller.connect()
        line = vmm_line("DEPLOY", world.oned.xml(VM))
        await controller.send(link, (1, line), (1, line))
        await controller.send(link, (1, line))
        assert link.acks == [1, 1, 1]
        assert len((await controller.journal.load()).intents) == 1
        assert len(controller.record().intents) == 1
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.until(lambda: len(link.answers) == 1)
        await controller.send(link, (1, line))
        await asyncio.sleep(5)
        assert len(link.answers) == 1


async def test_a_burst_is_kept_in_order(world: World) -> None:
    async with world.controller() as controller:
        link = controller.connect()
        lines = [
            (n, vmm_line(action, world.oned.xml(VM))) for n, action in enumerate(["DEPLOY", "REBOOT", "RESET"] * 5)
        ]
        await controller.send(link, *lines)
        kept = [(intent.source, intent.action) for intent in controller.record().intents]
        assert kept == [(f"first:{n}", line.split()[0]) for n, line in lines]


RECORDED = [record for record in records("vmm") if record["from"] == "oned" and "xml" in record]


async def test_every_recorded_request_is_taken_or_refused_at_once(world: World) -> None:
    async with world.controller() as controller:
        link = controller.connect()
        await controller.send(link, *((seq, to_vmm(record)) for seq, record in enumerate(RECORDED)))
        contents = await controller.journal.load()
        assert len(link.acks) == len(RECORDED)
        assert {intent.action for intent in contents.intents} == {
            "DEPLOY", "RESTORE", "SHUTDOWN", "CANCEL", "REBOOT", "RESET", "CLEANUP", "SAVE",
            "ATTACHNIC", "DETACHNIC", "UPDATENIC", "UPDATESG", "UPDATECONF",
        }  # fmt: skip
        for line in link.answers:
            assert "not supported yet" in line
        refused = {line.split()[0] for line in link.answers}
        assert {"ATTACHDISK", "RESIZE", "SNAPSHOTCREATE", "MIGRATE", "EXEC"} <= refused
        assert len(contents.intents) + len(link.answers) == len(RECORDED)


@pytest.mark.parametrize(
    ("action", "first_words"),
    [
        ("ATTACHDISK", "ATTACHDISK FAILURE 25001 not supported yet"),
        ("FOO", "FOO FAILURE 25001 ONEDock knows no action FOO"),
    ],
)
async def test_refusals_begin_as_oned_needs_it(world: World, action: str, first_words: str) -> None:
    async with world.controller("worker") as controller:
        link = controller.connect()
        await controller.ask(link, 1, action)
        assert len(link.answers) == 1
        assert link.answers[0].startswith(first_words)
        assert link.acks == [1]
        assert list(controller.record().intents) == []


async def test_a_refusal_survives_the_death_of_the_controller(world: World) -> None:
    world.oned.set(VM, state=3, lcm_state=17)
    async with world.controller() as controller:
        await controller.ask(controller.connect(), 1, "ATTACHDISK")
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="second")
        await controller.until(lambda: len(link.answers) == 1)
        assert link.answers[0].startswith("ATTACHDISK FAILURE 25001 not supported yet")
        assert controller.record().error == ""


async def test_what_oned_does_not_listen_to_is_not_said(world: World) -> None:
    async with world.controller("delivery") as controller:
        link = controller.connect()
        await controller.ask(link, 1, "BACKUPCANCEL")
        await asyncio.sleep(5)
        assert link.answers == []
        assert (await controller.journal.load()).outcomes == ()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"DEPLOY  {VM} !!!", f"DEPLOY FAILURE {VM} payload of DEPLOY cannot be read"),
        (f"DEPLOY  {VM} ", f"DEPLOY FAILURE {VM} not XML"),
        (f"UPDATESG  {VM} ", f"UPDATESG FAILURE {VM} 2147483647 not XML"),
        (f"UPDATENIC  {VM} !!!", f"UPDATENIC FAILURE {VM} 2147483647 payload of UPDATENIC cannot be read"),
        (f"DEPLOY  {VM} {base64.b64encode(b'<VM>').decode()}", f"DEPLOY FAILURE {VM} XML is broken"),
        (vmm_line("DEPLOY", "<VM><ID>1</ID></VM>"), f"DEPLOY FAILURE {VM} the message for VM {VM} contains VM 1"),
        ("rm -rf /", "LOG E -1 ONEDock: line of oned not understood"),
        ("", "LOG E -1 ONEDock: line of oned not understood"),
        ("DEPLOY\udc80  5 x", "LOG E -1 ONEDock: line of oned not understood"),
    ],
)
async def test_hostile_lines_get_the_clearest_answer_and_do_nothing(world: World, line: str, says: str) -> None:
    async with world.controller("worker") as controller:
        link = controller.connect()
        await controller.send(link, (1, line))
        assert len(link.lines) == 1
        assert link.lines[0].startswith(says)
        assert link.acks == [1]
        assert (await controller.journal.load()).intents == ()
        await asyncio.sleep(5)
        assert world.engine.containers == {}


async def test_a_line_over_the_limit_is_answered_with_its_size(world: World) -> None:
    async with world.controller() as controller:
        link = controller.connect()
        await controller.requests.vmm_line(link, 1, f"DEPLOY  {VM} ", 73400320)
        assert link.answers == [
            f"DEPLOY FAILURE {VM} the request has 73400320 bytes; at most 32 MiB work; shorten the VM's template"
        ]


async def test_a_cancel_stops_what_runs_and_never_answers_it(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        world.engine.free.clear()
        await controller.ask(link, 1, "DEPLOY")
        await controller.until(lambda: world.engine.phase() is Phase.CREATED)
        world.oned.set(VM, state=3, lcm_state=15)
        await controller.send(link, (2, f"DRIVER_CANCEL  {VM} "))
        world.engine.free.set()
        await asyncio.sleep(60)
        assert link.answers == []
        assert link.acks == [1, 2]
        assert (await controller.journal.load()).intents == ()
        assert world.engine.phase() is Phase.CREATED


async def test_a_clean_up_right_behind_a_cancel_is_done(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        world.engine.free.clear()
        await controller.ask(link, 1, "DEPLOY")
        await controller.until(lambda: world.engine.phase() is Phase.CREATED)
        world.oned.set(VM, state=3, lcm_state=15)
        clean_up = vmm_line("CLEANUP", world.oned.xml(VM))
        await controller.send(link, (2, f"DRIVER_CANCEL  {VM} "), (3, clean_up))
        world.engine.free.set()
        await controller.until(lambda: link.answers == [f"CLEANUP SUCCESS {VM} -"])
        assert world.engine.containers == {}
        assert world.networks.networks == {}
        await asyncio.sleep(60)
        assert controller.registry.find(VM) is None
        assert (await controller.journal.load()).desired == ()


async def test_a_request_and_its_cancel_in_one_burst(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        world.engine.free.clear()
        deploy = vmm_line("DEPLOY", world.oned.xml(VM))
        world.oned.set(VM, state=3, lcm_state=15)
        clean_up = vmm_line("CLEANUP", world.oned.xml(VM))
        await controller.send(link, (1, deploy), (2, f"DRIVER_CANCEL  {VM} "), (3, clean_up))
        await controller.until(lambda: link.answers == [f"CLEANUP SUCCESS {VM} -"])
        assert world.engine.containers == {}


async def test_a_cancel_that_comes_again_spares_what_followed_it(world: World) -> None:
    world.oned.set(VM, state=3, lcm_state=15)
    async with world.controller() as controller:
        link = controller.connect()
        await controller.send(link, (3, vmm_line("CLEANUP", world.oned.xml(VM))))  # and the cancel was not acknowledged
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.send(link, (2, f"DRIVER_CANCEL  {VM} "))
        await controller.until(lambda: link.answers == [f"CLEANUP SUCCESS {VM} -"])


async def test_a_cancel_on_a_full_disk_comes_again(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        world.engine.free.clear()
        await controller.ask(link, 1, "DEPLOY")
        await controller.until(lambda: world.engine.phase() is Phase.CREATED)
        controller.journal.full = True
        with pytest.raises(ExceptionGroup):
            await controller.send(link, (2, f"DRIVER_CANCEL  {VM} "))
        assert link.acks == [1]
        controller.journal.full = False
        await controller.send(link, (2, f"DRIVER_CANCEL  {VM} "))
        assert link.acks == [1, 2]
        assert (await controller.journal.load()).intents == ()


async def test_a_cancel_drops_every_request_before_it(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        world.engine.free.clear()
        lines = [(n, vmm_line(action, world.oned.xml(VM))) for n, action in enumerate(["DEPLOY", "REBOOT", "RESET"])]
        await controller.send(link, *lines)
        await controller.until(lambda: world.engine.phase() is Phase.CREATED)
        await controller.send(link, (5, f"DRIVER_CANCEL  {VM} "))
        world.engine.free.set()
        await asyncio.sleep(30)
        assert world.engine.starts == 0
        assert (await controller.journal.load()).intents == ()


async def test_a_cancel_of_nothing_is_nothing(world: World) -> None:
    async with world.controller("worker") as controller:
        link = controller.connect()
        await controller.send(link, (1, f"DRIVER_CANCEL  {VM} "), (2, "DRIVER_CANCEL  25999 "))
        assert link.acks == [1, 2]
        assert link.lines == []


async def test_a_cancel_is_not_undone_by_a_restart(world: World) -> None:
    async with world.controller() as controller:
        link = controller.connect()
        await controller.ask(link, 1, "DEPLOY")
        await controller.send(link, (2, f"DRIVER_CANCEL  {VM} "))
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect(session="second")
        await asyncio.sleep(30)
        assert link.answers == []
        assert world.engine.containers == {}


DELETE = [f"node1:/var/lib/one//datastores/101/{VM}/disk.0", str(VM), "101"]


async def test_a_transfer_script_waits_for_its_result(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        result = await controller.requests.script(Channel.TM, "abc", "delete", DELETE, "")
        assert (result.code, result.stderr) == (0, "")
        assert world.engine.containers == {}
        assert world.networks.networks == {}
        again = await controller.requests.script(Channel.TM, "abc", "delete", DELETE, "")
        assert again == result


async def test_a_script_that_asks_again_joins_the_first(world: World) -> None:
    async with world.controller() as controller:
        asked = [
            asyncio.create_task(controller.requests.script(Channel.TM, "abc", "delete", DELETE, "")) for _ in range(3)
        ]
        await asyncio.sleep(1)
        assert len((await controller.journal.load()).intents) == 1
        controller.start("worker")
        assert [result.code for result in await asyncio.gather(*asked)] == [0, 0, 0]


async def test_a_script_that_outlives_the_controller_gets_the_first_result(world: World) -> None:
    async with world.controller() as controller:
        lost = asyncio.create_task(controller.requests.script(Channel.TM, "abc", "delete", DELETE, ""))
        await asyncio.sleep(1)
        lost.cancel()
    async with world.controller("worker") as controller:
        result = await controller.requests.script(Channel.TM, "abc", "delete", DELETE, "")
        assert result.code == 0
        assert (await controller.journal.load()).intents == ()


@pytest.mark.parametrize(
    ("action", "argv", "says"),
    [
        ("delete", ["nonsense"], "unexpected arguments"),
        ("explode", [], "not supported yet"),
        ("mv", ["node1:/a", "node2:/a", str(VM), "101"], "not supported yet"),
        ("mkswap", ["100", "node1:/x/disk.1", str(VM), "101"], "not supported yet"),
        ("clone", ["/no/image", f"node1:/x/{VM}/disk.0", str(VM), "101"], "no image of ONEDock"),
    ],
)
async def test_transfers_that_cannot_be_fail_with_the_reason(
    world: World, action: str, argv: list[str], says: str
) -> None:
    async with world.controller("worker") as controller:
        result = await controller.requests.script(Channel.TM, "abc", action, argv, "")
        assert result.code == 1
        assert says in result.stderr
        assert result.stderr.endswith("\n")
        assert await controller.requests.script(Channel.TM, "abc", action, argv, "") == result


async def test_a_cancelled_script_is_told_so(world: World) -> None:
    async with world.controller() as controller:
        asked = asyncio.create_task(controller.requests.script(Channel.TM, "abc", "delete", DELETE, ""))
        await asyncio.sleep(1)
        await controller.send(controller.connect(), (1, f"DRIVER_CANCEL  {VM} "))
        assert "cancelled" in (await asked).stderr
        assert "cancelled" in (await controller.requests.script(Channel.TM, "abc", "delete", DELETE, "")).stderr


async def test_the_answer_to_a_poweroff_and_the_next_start(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        first = world.engine.of()
        world.oned.set(VM, lcm_state=SHUTDOWN_POWEROFF)
        await controller.ask(link, 2, "SHUTDOWN")
        await controller.until(lambda: link.answers[-1] == f"SHUTDOWN SUCCESS {VM} -")
        assert world.engine.phase() is Phase.EXITED
        assert world.networks.networks == {}
        await controller.confirm(link)
        world.oned.set(VM, lcm_state=20, seq=1)
        await controller.ask(link, 3, "DEPLOY")
        await controller.until(lambda: len(link.answers) == 3)
        assert world.engine.phase() is Phase.RUNNING
        after = world.engine.of()
        assert first is not None
        assert after is not None
        assert after.id == first.id  # the root disk is kept


async def test_two_vms_with_one_node_do_not_mix(world: World) -> None:
    other = VmId(25005)
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link, VM, 1)
        await controller.deploy(link, other, 2)
        world.oned.set(VM, lcm_state=SHUTDOWN_POWEROFF)
        await controller.ask(link, 3, "SHUTDOWN")
        await controller.until(lambda: world.engine.phase(VM) is Phase.EXITED)
        await asyncio.sleep(5)
        assert world.engine.phase(other) is Phase.RUNNING
        powers = {desired.vm: desired.power for desired in (await controller.journal.load()).desired}
        assert powers == {VM: Power.STOPPED, other: Power.RUNNING}


async def test_payloads_of_scripts_are_kept_as_they_are(world: World) -> None:
    async with world.controller() as controller:
        argv = [*DELETE]
        asked = asyncio.create_task(controller.requests.script(Channel.TM, "abc", "delete", argv, "é\udc80\n"))
        await asyncio.sleep(1)
        (intent,) = (await controller.journal.load()).intents
        assert json.loads(intent.payload) == {"argv": argv, "stdin": "é\udc80\n"}
        asked.cancel()


async def test_a_reboot_is_done_and_not_answered(world: World) -> None:
    async with world.controller("worker", "delivery") as controller:
        link = controller.connect()
        await controller.deploy(link)
        first = world.engine.of()
        assert first is not None
        world.oned.set(VM, lcm_state=RUNNING)
        await controller.ask(link, 2, "REBOOT")
        await controller.until(lambda: world.engine.starts == 2)
        await asyncio.sleep(60)
        assert world.engine.starts == 2
        assert world.engine.phase() is Phase.RUNNING
        assert len(link.answers) == 1
