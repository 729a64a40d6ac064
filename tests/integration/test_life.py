"""A VM's life on the real engine and kernel, told through OpenNebula, from deploy to terminate."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.support.cloud import Cloud
from tests.support.images import Image
from tests.support.kept_cloud import KeptCloud
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

WEB = Image(cmd=("sh", "-c", "trap 'exit 0' TERM; echo up >> /boots; while :; do sleep 0.1; done"))


@pytest_asyncio.fixture(loop_scope="module")
async def cloud(kept_cloud: KeptCloud) -> AsyncIterator[Cloud]:
    async with kept_cloud.lent() as running:
        yield running


async def address_of(cloud: Cloud, vm: int) -> str:
    document = await cloud.one.vm(vm)
    address = document.findtext("TEMPLATE/NIC/IP")
    assert address
    return address


async def test_deploy_reboot_poweroff_resume_terminate(cloud: Cloud) -> None:
    image = await cloud.image("web", WEB)
    images_before = cloud.engine.api("GET", "/images/json")
    vm = await cloud.running_vm(image, name="web-1")
    address = await address_of(cloud, vm)
    container = cloud.container(vm)
    assert container is not None
    assert container["Name"] == f"/one-{vm}"
    assert cloud.pings(address)
    assert cloud.run_in(vm, "/bin/busybox", "hostname").strip() == "web-1"
    assert f"nameserver {'10.77.0.1'}" in cloud.run_in(vm, "/bin/busybox", "cat", "/etc/resolv.conf")
    assert f"{address}\tweb-1" in cloud.run_in(vm, "/bin/busybox", "cat", "/etc/hosts")
    assert "default via 10.77.0.1" in cloud.run_in(vm, "/bin/busybox", "ip", "route")
    assert container["HostConfig"]["Memory"] == container["HostConfig"]["MemorySwap"] == 64 * 1024 * 1024
    assert container["HostConfig"]["CpuQuota"] == 50_000
    assert container["HostConfig"]["PidsLimit"] == 4096
    assert not container["HostConfig"]["Privileged"]
    assert not container["HostConfig"]["CapAdd"]

    cloud.run_in(vm, "/bin/busybox", "touch", "/kept")
    await cloud.action(vm, "reboot")

    def restarted() -> bool:
        now = cloud.container(vm)
        return (
            now is not None and now["State"]["Running"] and now["State"]["StartedAt"] != container["State"]["StartedAt"]
        )

    await eventually(restarted, within=20, what="the container runs anew")
    assert cloud.container(vm)["Id"] == container["Id"]  # type: ignore[index]
    assert cloud.pings(address)

    await cloud.action(vm, "poweroff")
    await cloud.reaches(vm, VmState.POWEROFF)
    stopped = cloud.container(vm)
    assert stopped is not None
    assert stopped["State"]["Status"] == "exited"
    assert not cloud.pings(address), "a powered-off VM must not answer"
    await eventually(lambda: f"one-{vm}" not in cloud.namespaces(), what="the namespace is gone")

    await cloud.action(vm, "resume")
    await cloud.reaches(vm, LcmState.RUNNING)
    assert cloud.container(vm)["Id"] == container["Id"]  # type: ignore[index]
    assert cloud.pings(address)
    cloud.run_in(vm, "/bin/busybox", "test", "-e", "/kept")
    await eventually(lambda: cloud.run_in(vm, "/bin/busybox", "cat", "/boots") == "up\n" * 3, what="three boots")

    await cloud.action(vm, "terminate")
    await cloud.reaches(vm, VmState.DONE)
    await cloud.settled()
    assert cloud.container(vm) is None
    assert f"one-{vm}" not in cloud.namespaces()
    assert not {link for link in cloud.links() if link.startswith("one-")}
    tags = {tag for found in cloud.engine.api("GET", "/images/json") for tag in found["RepoTags"] or ()}
    assert tags == {tag for found in images_before for tag in found["RepoTags"] or ()}


async def test_terminate_of_a_powered_off_vm_leaves_nothing(cloud: Cloud) -> None:
    """oned sends only DELETE lines of the transfer manager then (protocol reference 9.2)."""
    vm = await cloud.running_vm(await cloud.image("web", WEB))
    await cloud.action(vm, "poweroff-hard")
    await cloud.reaches(vm, VmState.POWEROFF)
    await cloud.action(vm, "terminate")
    await cloud.reaches(vm, VmState.DONE)
    await cloud.settled()
    assert cloud.container(vm) is None
    assert f"one-{vm}" not in cloud.namespaces()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_death_shows_at_once_inside_the_guard(cloud: Cloud, signal_number: int) -> None:
    vm = await cloud.running_vm(await cloud.image("web", WEB))
    container = cloud.container(vm)
    assert container is not None
    os.kill(container["State"]["Pid"], signal_number)
    await cloud.reaches(vm, VmState.POWEROFF, within=10)
    log = cloud.one.vm_log(vm)
    code = 137 if signal_number == signal.SIGKILL else 0
    await eventually(lambda: f"exit code {code}" in log.read_text(), what="the VM's log tells the exit code")
    await eventually(lambda: f"one-{vm}" not in cloud.namespaces(), what="the network is unplugged")
    await cloud.action(vm, "resume")
    await cloud.reaches(vm, LcmState.RUNNING)


async def test_out_of_memory_is_told(cloud: Cloud) -> None:
    eater = Image(cmd=("sh", "-c", "sleep 0.5; x=a; while :; do x=$x$x; done"))
    vm = await cloud.running_vm(await cloud.image("eater", eater), memory=32)
    await cloud.reaches(vm, VmState.POWEROFF, within=20)
    log = cloud.one.vm_log(vm)
    await eventually(lambda: "out of memory" in log.read_text(), what="the VM's log tells it")


async def test_a_container_removed_by_hand_shows_and_comes_back(cloud: Cloud) -> None:
    vm = await cloud.running_vm(await cloud.image("web", WEB))
    container = cloud.container(vm)
    assert container is not None
    cloud.engine.api("DELETE", f"/containers/{container['Id']}?force=1")
    await cloud.reaches(vm, VmState.POWEROFF, within=10)
    log = cloud.one.vm_log(vm)
    await eventually(lambda: "removed by hand" in log.read_text(), what="the VM's log tells what was lost")
    await cloud.action(vm, "resume")
    await cloud.reaches(vm, LcmState.RUNNING)
    again = cloud.container(vm)
    assert again is not None
    assert again["Id"] != container["Id"]


async def test_pause_and_unpause_by_hand(cloud: Cloud) -> None:
    vm = await cloud.running_vm(await cloud.image("web", WEB))
    container = cloud.container(vm)
    assert container is not None
    cloud.engine.api("POST", f"/containers/{container['Id']}/pause")
    await cloud.reaches(vm, VmState.SUSPENDED, within=10)
    cloud.engine.api("POST", f"/containers/{container['Id']}/unpause")
    await cloud.reaches(vm, LcmState.RUNNING, within=10)
    cloud.engine.api("POST", f"/containers/{container['Id']}/pause")
    await cloud.reaches(vm, VmState.SUSPENDED, within=10)
    await cloud.action(vm, "resume")
    await cloud.reaches(vm, LcmState.RUNNING)
    assert not cloud.container(vm)["State"]["Paused"]  # type: ignore[index]


async def test_a_command_that_is_not_in_the_image_fails_clearly(cloud: Cloud) -> None:
    image = await cloud.image("broken", more='DOCKERRUN="/no/such/program --flag"\n')
    vm = await cloud.vm(image)
    await cloud.reaches(vm, LcmState.BOOT_FAILURE)
    document = await cloud.one.vm(vm)
    error = document.findtext("USER_TEMPLATE/ERROR") or ""
    assert "/no/such/program" in error, error
    await cloud.settled()
    assert cloud.container(vm) is None
    assert f"one-{vm}" not in cloud.namespaces()
    await cloud.one.call("one.vm.recover", vm, 3)
    await cloud.reaches(vm, VmState.DONE)


async def test_unsupported_verbs_fail_and_leave_the_vm_running(cloud: Cloud) -> None:
    vm = await cloud.running_vm(await cloud.image("web", WEB))
    before = cloud.container(vm)
    assert before is not None
    await cloud.action(vm, "suspend")
    log = cloud.one.vm_log(vm)
    await eventually(lambda: "not supported yet" in log.read_text(), what="the VM's log says so")
    await cloud.reaches(vm, LcmState.RUNNING)
    await cloud.action(vm, "undeploy")
    await eventually(lambda: log.read_text().count("not supported yet") >= 2, what="the VM's log says so again")
    await cloud.reaches(vm, LcmState.RUNNING)
    after = cloud.container(vm)
    assert after is not None
    assert after["State"]["StartedAt"] == before["State"]["StartedAt"]


async def test_delete_of_a_running_vm_cleans_up(cloud: Cloud) -> None:
    vm = await cloud.running_vm(await cloud.image("web", WEB))
    await cloud.one.call("one.vm.recover", vm, 3)
    await cloud.reaches(vm, VmState.DONE)
    await eventually(lambda: cloud.container(vm) is None, what="the container is gone")
    await eventually(lambda: f"one-{vm}" not in cloud.namespaces(), what="the namespace is gone")


async def test_many_vms_at_once(cloud: Cloud) -> None:
    image = await cloud.image("web", WEB)
    vms = [await cloud.vm(image, name=f"vm-{number}") for number in range(8)]
    await asyncio.gather(*(cloud.reaches(vm, LcmState.RUNNING, within=60) for vm in vms))
    addresses = {await address_of(cloud, vm) for vm in vms}
    assert len(addresses) == len(vms)
    assert all(cloud.pings(address) for address in addresses)
