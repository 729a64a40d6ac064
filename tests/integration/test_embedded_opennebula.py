"""The embedded OpenNebula as a process: walkthrough, driver restart, persistence, monitoring and scheduling."""

import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.opennebula import CallFailedError, EmbeddedOpenNebula
from tests.support.scripted import ScriptedDriver, ScriptedRemotes, decoded, monitor_line
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState

SYSTEM = 'HYPERVISOR="onedock"\nTOTALCPU=200\nTOTALMEMORY=24000000\n'


@dataclass
class Cloud:
    one: EmbeddedOpenNebula
    vmm: ScriptedDriver
    im: ScriptedDriver
    remotes: ScriptedRemotes

    async def prepare(self) -> None:
        """Datastores, an image, a network and a monitored host."""
        await self.one.new_system_datastore()
        images = await self.one.new_image_datastore()
        image = 'NAME="ubuntu"\nPATH=docker://rastasheep/ubuntu-sshd\nTYPE=OS\n'
        await self.one.call("one.image.allocate", image, images, True)
        network = 'NAME=private\nVN_MAD=bridge\nBRIDGE=docker0\nAR=[TYPE="IP4",IP="172.17.10.1",SIZE="100"]\n'
        await self.one.call("one.vn.allocate", network, -1)
        await self.one.wait_for_image(0)
        await self.one.call("one.host.allocate", "node1", "onedock", "onedock", -1)
        self.im.say(monitor_line("SYSTEM_HOST", 0, SYSTEM))
        await self.one.wait_for_host(0)

    async def new_vm(self) -> int:
        """A VM with disk, network and context."""
        template = 'CPU=1\nMEMORY=64\nDISK=[IMAGE="ubuntu"]\nNIC=[NETWORK="private"]\nCONTEXT=[NETWORK="YES"]\n'
        return int(await self.one.call("one.vm.allocate", template, False))


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    vmm, im = ScriptedDriver.make(tmp_path / "vmm"), ScriptedDriver.make(tmp_path / "im")
    remotes = ScriptedRemotes.make(tmp_path / "remotes")
    one = EmbeddedOpenNebula(
        tmp_path / "one",
        vmm=vmm.command,
        im=im.command,
        remotes=remotes.directory,
        options=["--guard", "3", "--hostname", "vm"],
    )
    async with one:
        yield Cloud(one, vmm, im, remotes)


async def test_a_vm_lives_through_its_whole_life(cloud: Cloud) -> None:
    await cloud.prepare()
    vm = await cloud.new_vm()
    await cloud.one.wait_for_vm(vm, LcmState.RUNNING)
    for action, state in (("poweroff", VmState.POWEROFF), ("resume", LcmState.RUNNING), ("terminate", VmState.DONE)):
        await cloud.one.call("one.vm.action", action, vm)
        await cloud.one.wait_for_vm(vm, state)
    assert [decoded(line)[0] for line in cloud.vmm.lines()] == ["DEPLOY  0", "SHUTDOWN  0", "DEPLOY  0", "SHUTDOWN  0"]
    actions = [run["action"] for run in cloud.remotes.runs() if run["kind"] == "tm" and run["action"] != "monitor"]
    assert actions == ["clone", "delete", "delete"]
    assert "New LCM state is RUNNING" in cloud.one.vm_log(vm).read_text()


async def test_driver_is_restarted_at_once_and_nothing_is_replayed(cloud: Cloud) -> None:
    await cloud.prepare()
    cloud.vmm.answer("DEPLOY")
    vm = await cloud.new_vm()
    await eventually(lambda: cloud.vmm.lines(), what="DEPLOY was sent")
    first = cloud.one.driver_pid(str(cloud.vmm.directory))
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: _other_pid(cloud, first), what="the driver runs again")
    cloud.vmm.say(f"DEPLOY SUCCESS {vm} one-{vm}")
    await cloud.one.wait_for_vm(vm, LcmState.RUNNING)
    assert len(cloud.vmm.lines()) == 1


def _other_pid(cloud: Cloud, first: int) -> bool:
    try:
        return cloud.one.driver_pid(str(cloud.vmm.directory)) != first
    except LookupError:
        return False


async def test_state_survives_kill9(cloud: Cloud) -> None:
    await cloud.prepare()
    cloud.vmm.answer("DEPLOY")
    vm = await cloud.new_vm()
    await cloud.one.wait_for_vm(vm, LcmState.BOOT)
    before = await cloud.one.call("one.vm.info", vm)
    await cloud.one.kill9()
    await cloud.one.start()
    assert await cloud.one.call("one.vm.info", vm) == before
    cloud.vmm.say(f"DEPLOY SUCCESS {vm} one-{vm}")
    await cloud.one.wait_for_vm(vm, LcmState.RUNNING)


async def test_reports_over_tcp_and_udp_reach_the_vm(cloud: Cloud) -> None:
    await cloud.prepare()
    vm = await cloud.new_vm()
    await cloud.one.wait_for_vm(vm, LcmState.RUNNING)
    line = monitor_line("STATE_VM", 0, f'VM=[ID="{vm}",DEPLOY_ID="one-{vm}",STATE="POWEROFF"]')

    async def powered_off() -> bool:
        with socket.create_connection(("127.0.0.1", cloud.one.monitor_port)) as connection:
            connection.sendall(line.encode())
        return (await cloud.one.state(vm))[0] is VmState.POWEROFF

    await eventually(powered_off, what="POWEROFF is accepted when the guard is over")
    assert "Ignoring VM state update" in cloud.one.vm_log(vm).read_text()
    await cloud.one.call("one.vm.action", "resume", vm)
    await cloud.one.wait_for_vm(vm, LcmState.RUNNING)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        failure = monitor_line("BEACON_HOST", 0, "node is gone", result="FAILURE")
        udp.sendto(failure.encode(), ("127.0.0.1", cloud.one.monitor_port))
    await cloud.one.wait_for_host(0, 3)
    await cloud.one.wait_for_vm(vm, LcmState.UNKNOWN)


async def test_failed_deploy_is_shown_and_can_be_retried(cloud: Cloud) -> None:
    await cloud.prepare()
    cloud.vmm.answer("DEPLOY", "DEPLOY FAILURE {id} no such image " + "x" * 200)
    vm = await cloud.new_vm()
    await cloud.one.wait_for_vm(vm, LcmState.BOOT_FAILURE)
    error = (await cloud.one.vm(vm)).findtext("USER_TEMPLATE/ERROR", "")
    assert ": DEPLOY: no such image xx" in error
    assert len(error) == 100
    assert "x" * 200 in cloud.one.vm_log(vm).read_text()
    cloud.vmm.answer_again("DEPLOY")
    await cloud.one.call("one.vm.recover", vm, 2)
    await cloud.one.wait_for_vm(vm, LcmState.RUNNING)


async def test_failing_transfer_names_its_cause_and_can_be_retried(cloud: Cloud) -> None:
    await cloud.prepare()
    errors = "ERROR: clone: looked everywhere\nno such image at the registry; push it\n"
    cloud.remotes.answer("tm.clone", stderr=errors, code=1)
    vm = await cloud.new_vm()
    await cloud.one.wait_for_vm(vm, LcmState.PROLOG_FAILURE)
    error = (await cloud.one.vm(vm)).findtext("USER_TEMPLATE/ERROR", "")
    assert ": Error executing image transfer script: no such image at the registry" in error
    assert len(error) == 100
    log = cloud.one.vm_log(vm).read_text()
    assert "clone: looked everywhere" in log
    assert "Command execution failed (exit code: 1)" in log
    cloud.remotes.answer("tm.clone")
    await cloud.one.call("one.vm.recover", vm, 2)
    await cloud.one.wait_for_vm(vm, LcmState.RUNNING)


async def test_images_that_cannot_be_had_fail_early_or_are_in_error(cloud: Cloud) -> None:
    datastore = await cloud.one.new_image_datastore()
    template = 'NAME="nothing"\nPATH=docker://nothing\nTYPE=OS\n'
    cloud.remotes.answer("datastore.stat", stderr="no such image\n", code=1)
    with pytest.raises(CallFailedError, match="Cannot parse image SIZE: no such image"):
        await cloud.one.call("one.image.allocate", template, datastore, True)
    cloud.remotes.answer("datastore.stat", "64\n")
    cloud.remotes.answer("datastore.cp", stderr="registry is full\n", code=1)
    image = await cloud.one.call("one.image.allocate", template, datastore, True)
    await cloud.one.wait_for_image(image, 5)
    document = await cloud.one.document("one.image.info", image)
    assert "registry is full" in document.findtext("TEMPLATE/ERROR", "")


async def test_errors_have_text_and_code(cloud: Cloud) -> None:
    with pytest.raises(CallFailedError, match=r"\[one.vm.info\] Error getting virtual machine \[99\]") as missing:
        await cloud.one.call("one.vm.info", 99)
    assert missing.value.code == 0x400
    answer = await cloud.one.raw_call("one.vn.allocate", "NAME=private2\nBRIDGE=docker0\n", -1)
    assert answer == [False, "[one.vn.allocate] No VN_MAD in template for Virtual Network.", 8192, -1, -1]
    cloud.one.session = "oneadmin:wrong"
    with pytest.raises(CallFailedError) as refused:
        await cloud.one.call("one.vmpool.info", -2, -1, -1, -1)
    assert refused.value.code == 0x100


async def test_silent_host_is_started_again(cloud: Cloud) -> None:
    cloud.one.set_options("--host-interval", "0.3")
    await cloud.one.restart()
    await cloud.one.call("one.host.allocate", "node1", "onedock", "onedock", -1)

    def starts() -> list[str]:
        return [line for line in cloud.im.lines() if line.startswith("START_MONITOR - 0 0 ")]

    await eventually(lambda: len(starts()) > 2, what="START_MONITOR comes again and again")


async def test_refused_vm_leaves_image_and_address_free(cloud: Cloud) -> None:
    await cloud.prepare()
    template = 'CPU=1\nMEMORY=64\nDISK=[IMAGE="ubuntu"]\nNIC=[NETWORK="private"]\nNIC=[NETWORK="none"]\n'
    with pytest.raises(CallFailedError, match="Virtual network none does not exist"):
        await cloud.one.call("one.vm.allocate", template, False)
    assert (await cloud.one.document("one.image.info", 0)).findtext("RUNNING_VMS") == "0"
    assert (await cloud.one.document("one.vn.info", 0)).findtext("USED_LEASES") == "0"


async def test_vm_without_room_says_why(cloud: Cloud) -> None:
    await cloud.prepare()
    vm = int(await cloud.one.call("one.vm.allocate", "CPU=3\nMEMORY=64\n", False))

    async def told() -> bool:
        return "no monitored host" in (await cloud.one.vm(vm)).findtext("USER_TEMPLATE/SCHED_MESSAGE", "")

    await eventually(told, what="SCHED_MESSAGE is set")
