"""SIGKILL of a process while a NIC comes or goes: the change ends well, once, and the container notices nothing."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.support.crash_points import Moment, Point
from tests.support.crash_scene import Crash, Scene, Stage, Victim
from tests.support.engine import PrivateEngine
from tests.support.registry import PrivateRegistry

from onedock.lab.opennebula.states import LcmState, VmState

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

BEFORE, REPLY_LOST = Moment.BEFORE, Moment.REPLY_LOST
NETWORK = "PUT /vms/*/network"
CRASHES = [
    (Victim.CONTROLLER, "line {}", BEFORE),
    (Victim.CONTROLLER, NETWORK, BEFORE),
    (Victim.CONTROLLER, NETWORK, REPLY_LOST),
    (Victim.CONTROLLER, "outcome {}", BEFORE),
    (Victim.CONTROLLER, "delivered {}", BEFORE),
    (Victim.AGENT, NETWORK, BEFORE),
    (Victim.AGENT, NETWORK, REPLY_LOST),
    (Victim.DRIVER, "line {}", BEFORE),
    (Victim.DRIVER, "outcome {}", BEFORE),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(engine: PrivateEngine, registry: PrivateRegistry) -> AsyncIterator[Stage]:
    async with Stage(engine, registry) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def scene(stage: Stage) -> Scene:
    return await stage.scene()


def crash(victim: Victim, name: str, moment: Moment, action: str) -> Crash:
    return Crash(Point(name.format(action), moment), victim)


async def ended_well(scene: Scene, vm: int, nics: int) -> None:
    """OpenNebula and the node agree on the VM's NICs, and oned took every answer for what it was."""
    await scene.cloud.reaches(vm, LcmState.RUNNING, within=40)
    await scene.cloud.settled()
    document = await scene.cloud.one.vm(vm)
    wanted = {nic.findtext("IP") for nic in document.findall("TEMPLATE/NIC")}
    assert len(wanted) == nics
    shown = scene.cloud.engine.run_in_netns(["nsenter", f"--net=/run/netns/one-{vm}", "ip", "-j", "-4", "address"])
    links = [link for link in json.loads(shown.stdout) if link and link["ifname"] != "lo"]
    assert {address["local"] for link in links for address in link["addr_info"]} == wanted
    text = scene.cloud.one.vm_log(vm).read_text()
    assert "Wrong state" not in text, text
    assert "Ignored:" not in text, text


@pytest.mark.parametrize(("victim", "name", "moment"), CRASHES)
async def test_a_crash_while_a_nic_comes_and_goes(scene: Scene, victim: Victim, name: str, moment: Moment) -> None:
    cloud = scene.cloud
    vm = await cloud.running_vm(scene.image)
    before = cloud.container(vm)
    assert before is not None
    async with scene.conversation(vm) as say:
        await say("alone")
        async with scene.crash(crash(victim, name, moment, "ATTACHNIC")):
            await cloud.one.call("one.vm.attachnic", vm, f'NIC=[NETWORK_ID="{cloud.network}"]')
        await ended_well(scene, vm, 2)
        await say("with two")
        async with scene.crash(crash(victim, name, moment, "DETACHNIC")):
            await cloud.one.call("one.vm.detachnic", vm, 1)
        await ended_well(scene, vm, 1)
        await say("alone again")
    after = cloud.container(vm)
    assert after is not None
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
    await cloud.action(vm, "terminate")
    await cloud.reaches(vm, VmState.DONE)
    await cloud.settled()
    scene.spoiled = False
