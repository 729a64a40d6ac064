"""DEPLOY is idempotent: sent twice, after half a failure, on left-overs, with a part of node or front-end away."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import tostring

import pytest
import pytest_asyncio
from tests.support.cloud import Cloud
from tests.support.engine import RUNTIME, PrivateEngine
from tests.support.fake_oned import deploy_document, request
from tests.support.hand_driver import HandDriver
from tests.support.images import ENDS_ON_TERM, Image, load
from tests.support.registry import PrivateRegistry
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState
from onedock.reconcilers.model import LABEL_INSTANCE, LABEL_SPEC, LABEL_VM

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def wrapper(nothing_leaks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed wrapper that a test may break."""
    directory = tmp_path_factory.mktemp("runtime")
    shutil.copytree(RUNTIME.parent, directory, dirs_exist_ok=True)
    return directory / RUNTIME.name


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(wrapper: Path) -> AsyncIterator[Cloud]:
    with PrivateEngine(runtime=wrapper) as engine, PrivateRegistry(reachable_in=(engine.netns,)) as registry:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("ONEDOCK_CONTROLLER__DEADLINE_S", "8")
            environment.setenv("ONEDOCK_CONTROLLER__RESYNC_S", "1")
            cloud = Cloud(engine, registry, guard_s=1)
        async with cloud:
            yield cloud


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def image(cloud: Cloud) -> int:
    return await cloud.image("plain", ENDS_ON_TERM)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_stays(cloud: Cloud, image: int) -> AsyncIterator[None]:
    links, begin = cloud.links(), len(cloud.controller.log_text())
    yield
    for container in cloud.engine.api("GET", "/containers/json?all=1"):
        if LABEL_VM not in container["Labels"]:  # a failed test left it
            cloud.engine.api("DELETE", f"/containers/{container['Id']}?force=1")
    pool = await cloud.one.document("one.vmpool.info", -2, -1, -1, -1)
    for vm in [int(element.findtext("ID", "")) for element in pool]:
        await cloud.one.call("one.vm.recover", vm, 3)
        await cloud.reaches(vm, VmState.DONE)
    await eventually(lambda: not cloud.engine.api("GET", "/containers/json?all=1"), what="no container is left")
    await cloud.settled()
    assert cloud.links() == links
    _, traceback, crash = cloud.controller.log_text()[begin:].partition("Traceback")
    assert not traceback, crash[:3000]


async def told(cloud: Cloud, vm: int, text: str) -> None:
    """Wait until the VM's log in OpenNebula has a text; USER_TEMPLATE/ERROR keeps only its first words."""
    log = cloud.one.vm_log(vm)
    try:
        await eventually(lambda: text in log.read_text(), what=f"the VM's log says {text!r}")
    except AssertionError as failure:
        failure.add_note(log.read_text())
        raise
    error = (await cloud.one.vm(vm)).findtext("USER_TEMPLATE/ERROR") or ""
    assert text[:32] in error


def seen(cloud: Cloud, vm: int) -> dict[str, Any]:
    container = cloud.container(vm)
    assert container is not None
    return container


async def held_vm(cloud: Cloud, image: int, *, memory: int = 64) -> int:
    """A VM that oned does not deploy: its lines are sent by hand."""
    nic = f'NIC=[NETWORK_ID="{cloud.network}"]\nCONTEXT=[NETWORK="YES"]\n'
    template = f'NAME="held"\nCPU="0.5"\nMEMORY="{memory}"\nDISK=[IMAGE_ID="{image}"]\n{nic}'
    vm: int = await cloud.one.call("one.vm.allocate", template, True)
    return vm


@contextlib.asynccontextmanager
async def hand(cloud: Cloud) -> AsyncIterator[HandDriver]:
    """A driver moved by hand; afterwards oned's own is the current one again."""
    gone = cloud.controller.log_text().count("driver gone")
    with HandDriver(cloud.directory / "driver.sock") as driver:
        yield driver
    await eventually(lambda: cloud.controller.log_text().count("driver gone") > gone, what="the driver is gone")


async def deploy_line(cloud: Cloud, vm: int, action: str = "DEPLOY") -> str:
    return request(action, vm, tostring(await deploy_document(cloud, vm)))


async def test_a_line_sent_twice_is_one_request(cloud: Cloud, image: int) -> None:
    vm = await cloud.running_vm(image)
    before = seen(cloud, vm)
    line = await deploy_line(cloud, vm)
    async with hand(cloud) as driver:
        assert driver.ask(1, line) == f"DEPLOY SUCCESS {vm} one-{vm}"
        driver.send(1, line)
        assert driver.ask(2, line) == f"DEPLOY SUCCESS {vm} one-{vm}"
        assert len(driver.outcomes) == 2, "the line that came again was answered again"
    after = seen(cloud, vm)
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])


@pytest.mark.parametrize("how", ["kill", "stop", "pause"])
async def test_deploy_on_a_container_of_ours_keeps_it(cloud: Cloud, image: int, how: str) -> None:
    vm = await held_vm(cloud, image)
    line = await deploy_line(cloud, vm)
    async with hand(cloud) as driver:
        assert driver.ask(1, line).startswith("DEPLOY SUCCESS")
        before = seen(cloud, vm)
        cloud.engine.api("POST", f"/containers/{before['Id']}/{how}")
        assert driver.ask(2, line).startswith("DEPLOY SUCCESS")
        after = seen(cloud, vm)
        assert after["Id"] == before["Id"]
        assert after["State"]["Status"] == "running"
        assert f"one-{vm}" in cloud.namespaces()


async def make_left_over(cloud: Cloud, vm: int, *, labels: dict[str, str], started: bool = False) -> str:
    """A container one-<vm> that somebody made; returns its id."""
    image = await asyncio.to_thread(load, cloud.engine)
    body = {"Image": image, "Labels": labels, "HostConfig": {"NetworkMode": "none"}}
    made: str = cloud.engine.api("POST", f"/containers/create?name=one-{vm}", body)["Id"]
    if started:
        cloud.engine.api("POST", f"/containers/{made}/start")
    return made


@pytest.mark.parametrize("kind", ["never started, made otherwise", "of another VM", "of another VM, running"])
async def test_deploy_replaces_a_stale_left_over(cloud: Cloud, image: int, kind: str) -> None:
    vm = await held_vm(cloud, image)
    stime = (await cloud.one.vm(vm)).findtext("STIME")
    instance = f"{vm}-{stime}" if kind.startswith("never") else f"{vm}-1"
    labels = {LABEL_VM: str(vm), LABEL_INSTANCE: instance, LABEL_SPEC: "0123456789abcdef"}
    line = await deploy_line(cloud, vm)
    async with hand(cloud) as driver:
        stale = await make_left_over(cloud, vm, labels=labels, started=kind.endswith("running"))
        assert driver.ask(1, line) == f"DEPLOY SUCCESS {vm} one-{vm}"
    fresh = seen(cloud, vm)
    assert fresh["Id"] != stale
    assert fresh["State"]["Running"]
    assert fresh["Config"]["Labels"][LABEL_INSTANCE] == f"{vm}-{stime}"


@pytest.mark.parametrize("labels", [{}, {"org.example": "1"}], ids=["no-labels", "labels-of-others"])
async def test_a_foreign_container_is_not_touched(cloud: Cloud, image: int, labels: dict[str, str]) -> None:
    vm = await held_vm(cloud, image)
    foreign = await make_left_over(cloud, vm, labels=labels, started=True)
    before = cloud.engine.api("GET", f"/containers/{foreign}/json")
    await cloud.deploy(vm)
    await cloud.reaches(vm, LcmState.BOOT_FAILURE)
    await told(cloud, vm, f"the name one-{vm} is taken by a container that is not ONEDock's; rename or remove it")
    await eventually(lambda: f"one-{vm}" not in cloud.namespaces(), what="no namespace is left")
    assert cloud.engine.api("GET", f"/containers/{foreign}/json")["State"] == before["State"]
    cloud.engine.api("POST", f"/containers/{foreign}/rename?name=theirs")
    await cloud.one.call("one.vm.recover", vm, 2)
    await cloud.reaches(vm, LcmState.RUNNING)
    cloud.engine.api("DELETE", f"/containers/{foreign}?force=1")


async def test_a_bridge_of_ours_goes_with_its_last_vm(cloud: Cloud, image: int) -> None:
    network = 'NAME="own"\nVN_MAD="bridge"\nBRIDGE="odtown0"\nAR=[TYPE="IP4",IP="10.78.0.10",SIZE="9"]'
    number: int = await cloud.one.call("one.vn.allocate", network, -1)
    more = f'NIC=[NETWORK_ID="{number}"]\n'
    vms = [await cloud.vm(image, nic=False, more=more) for _ in range(2)]
    for vm in vms:
        await cloud.reaches(vm, LcmState.RUNNING)
    assert "odtown0" in cloud.links()
    for vm in vms:
        assert "odtown0" in cloud.links()
        await cloud.action(vm, "terminate-hard")
        await cloud.reaches(vm, VmState.DONE)
    await eventually(lambda: "odtown0" not in cloud.links(), what="the bridge is gone")


async def test_an_agent_that_is_down_is_waited_for(cloud: Cloud, image: int) -> None:
    tries = cloud.controller.log_text().count("will be tried again")
    cloud.agent.kill()
    vm = await cloud.vm(image)
    await eventually(
        lambda: cloud.controller.log_text().count("pass failed, will be tried again") > tries, what="a pass has failed"
    )
    assert await cloud.one.state(vm) == (VmState.ACTIVE, LcmState.BOOT)
    await asyncio.to_thread(cloud.agent.start)
    await cloud.reaches(vm, LcmState.RUNNING)
    assert f"one-{vm}" in cloud.namespaces()


async def test_an_engine_that_is_down_is_waited_for(cloud: Cloud, image: int) -> None:
    await asyncio.to_thread(cloud.engine.kill_dockerd)
    vm = await cloud.vm(image)
    await eventually(lambda: "cannot be reached" in cloud.controller.log_text(), what="a pass has failed")
    await asyncio.to_thread(cloud.engine.start_dockerd)
    await cloud.reaches(vm, LcmState.RUNNING)


async def test_an_image_that_the_node_lost_is_pulled_again(cloud: Cloud, image: int) -> None:
    """Between PROLOG, which pulls, and DEPLOY: here there is no PROLOG at all."""
    vm = await held_vm(cloud, await cloud.image("rare", Image(env=("RARE=yes",))))
    async with hand(cloud) as driver:
        assert driver.ask(1, await deploy_line(cloud, vm)).startswith("DEPLOY SUCCESS")
    assert "RARE=yes" in seen(cloud, vm)["Config"]["Env"]


async def test_an_image_that_is_gone_from_the_registry_fails_clearly(cloud: Cloud) -> None:
    lost = await cloud.image("lost", Image(env=("LOST=yes",)))
    shutil.rmtree(cloud.registry.storage / f"docker/registry/v2/repositories/onedock/image-{lost}")
    vm = await cloud.vm(lost)
    await cloud.reaches(vm, LcmState.PROLOG_FAILURE)
    await told(cloud, vm, "the registry does not have the image")
    held = await held_vm(cloud, lost)
    async with hand(cloud) as driver:
        answer = driver.ask(1, await deploy_line(cloud, held))
    assert answer.startswith(f"DEPLOY FAILURE {held} the registry does not have the image")


async def test_a_foreign_link_is_not_touched(cloud: Cloud, image: int) -> None:
    vm = await held_vm(cloud, image)
    link = f"one-{vm}-0"
    cloud.engine.run_in_netns(["ip", "link", "add", link, "type", "bridge"])
    before = cloud.engine.run_in_netns(["ip", "-details", "link", "show", link]).stdout
    await cloud.deploy(vm)
    await cloud.reaches(vm, LcmState.BOOT_FAILURE)
    await told(cloud, vm, f"link {link} exists on this node and is not ONEDock's; remove or rename it")
    await eventually(lambda: cloud.container(vm) is None, what="no container is left")
    await eventually(lambda: f"one-{vm}" not in cloud.namespaces(), what="no namespace is left")
    assert cloud.engine.run_in_netns(["ip", "-details", "link", "show", link]).stdout == before
    cloud.engine.run_in_netns(["ip", "link", "delete", link])
    await cloud.one.call("one.vm.recover", vm, 2)
    await cloud.reaches(vm, LcmState.RUNNING)


@contextlib.contextmanager
def damaged(file: Path, text: str = "") -> Iterator[None]:
    """A program that is missing, or another one."""
    aside = file.rename(file.with_suffix(".aside"))
    try:
        if text:
            file.write_text(text)
            file.chmod(0o755)
        yield
    finally:
        aside.rename(file)


@pytest.mark.parametrize("how", ["missing", "broken", "without-its-other-half"])
async def test_a_wrapper_that_does_not_work_is_named(cloud: Cloud, image: int, wrapper: Path, how: str) -> None:
    file = wrapper.with_name("patch_bundle.py") if how == "without-its-other-half" else wrapper
    with damaged(file, "#!/bin/sh\necho this is no runtime >&2\nexit 3\n" if how == "broken" else ""):
        vm = await cloud.vm(image)
        await cloud.reaches(vm, LcmState.BOOT_FAILURE)
        await told(cloud, vm, "the OCI runtime of the node does not work: ")
        await eventually(lambda: cloud.container(vm) is None, what="no container is left")
        await eventually(lambda: f"one-{vm}" not in cloud.namespaces(), what="no namespace is left")
    await cloud.one.call("one.vm.recover", vm, 2)
    await cloud.reaches(vm, LcmState.RUNNING)


@contextlib.contextmanager
def small_disk(cloud: Cloud) -> Iterator[Path]:
    """The journal on a file system of 8 MB, while the controller is down; undone when it is down again."""
    directory, aside = cloud.directory / "controller", cloud.directory / "controller.aside"
    directory.rename(aside)
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", directory], check=True)
    try:
        shutil.copytree(aside, directory, dirs_exist_ok=True)
        yield directory
        shutil.copytree(directory, aside, dirs_exist_ok=True)
    finally:
        subprocess.run(["umount", directory], check=True)
        directory.rmdir()
        aside.rename(directory)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


async def test_a_full_disk_loses_no_request(cloud: Cloud, image: int) -> None:
    vm = await cloud.running_vm(image)
    await asyncio.to_thread(cloud.controller.stop)
    with small_disk(cloud) as disk:
        await asyncio.to_thread(cloud.controller.start)
        await cloud.settled()
        fill(disk / "filler")
        other = await cloud.vm(image)
        await cloud.action(vm, "poweroff")
        await eventually(lambda: "cannot be written" in cloud.controller.log_text(), what="the disk is full")
        assert cloud.controller.alive
        assert await cloud.one.state(vm) == (VmState.ACTIVE, LcmState.SHUTDOWN_POWEROFF)
        (disk / "filler").unlink()
        await cloud.reaches(vm, VmState.POWEROFF)
        await cloud.reaches(other, LcmState.RUNNING)
        await cloud.settled()
        await asyncio.to_thread(cloud.controller.stop)
    await asyncio.to_thread(cloud.controller.start)
    await cloud.action(vm, "resume")
    await cloud.reaches(vm, LcmState.RUNNING)


async def test_limits_changed_while_powered_off_hold_after_resume(cloud: Cloud, image: int) -> None:
    vm = await cloud.running_vm(image)
    before = seen(cloud, vm)
    await cloud.action(vm, "poweroff")
    await cloud.reaches(vm, VmState.POWEROFF)
    await cloud.one.call("one.vm.resize", vm, 'MEMORY="96"\nCPU="1"\nVCPU="2"', False)
    await cloud.action(vm, "resume")
    await cloud.reaches(vm, LcmState.RUNNING)
    after = seen(cloud, vm)
    assert after["Id"] == before["Id"]
    limits = after["HostConfig"]
    assert limits["Memory"] == limits["MemorySwap"] == 96 * 1024 * 1024
    assert (limits["CpuShares"], limits["CpuQuota"]) == (1024, 200_000)
    assert memory_limit(after["State"]["Pid"]) == 96 * 1024 * 1024


def memory_limit(pid: int) -> int:
    """What the kernel enforces, in bytes, with either version of control groups."""
    groups = [line.split(":") for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    for _, controllers, path in groups:
        if "memory" in controllers.split(","):
            return int(Path("/sys/fs/cgroup/memory", path[1:], "memory.limit_in_bytes").read_text())
    return int(Path("/sys/fs/cgroup", groups[0][2][1:], "memory.max").read_text())


async def test_a_lost_journal_restarts_nothing(cloud: Cloud, image: int) -> None:
    vm = await cloud.running_vm(image)
    before = seen(cloud, vm)
    await asyncio.to_thread(cloud.controller.kill)
    for file in (cloud.directory / "controller").glob("journal*"):
        file.unlink()
    await asyncio.to_thread(cloud.controller.start)
    await eventually(
        lambda: [known["power"] for known in cloud.view("/vms") if known["vm"] == vm] == ["running"],
        what="it is adopted",
    )
    await cloud.settled()
    after = seen(cloud, vm)
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
    await cloud.action(vm, "poweroff")
    await cloud.reaches(vm, VmState.POWEROFF)
    assert seen(cloud, vm)["State"]["Status"] == "exited"


async def test_a_vm_deleted_behind_our_back_is_removed_after_the_grace(cloud: Cloud, image: int) -> None:
    vm = await cloud.running_vm(image)
    await cloud.one.call("one.vm.recover", vm, 5)
    await cloud.reaches(vm, VmState.DONE)
    assert seen(cloud, vm)["State"]["Running"], "it was removed before the grace was over"
    await eventually(lambda: cloud.container(vm) is None, within=20, what="the container is gone")
    await eventually(lambda: f"one-{vm}" not in cloud.namespaces(), what="the namespace is gone")
