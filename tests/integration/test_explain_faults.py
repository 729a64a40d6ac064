"""Many faults, made for real: `onedock explain` begins with the true cause, `onedock doctor` finds it."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support import engine as engines
from tests.support import registry as registries
from tests.support.cloud import BRIDGE
from tests.support.faults import Scene, filled, moved_away, read_only
from tests.support.images import Image, load
from tests.support.processes import stopped
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, VmId

pytestmark = [
    pytest.mark.root,
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(engines.why_not()), reason=str(engines.why_not())),
    pytest.mark.skipif(bool(registries.why_not()), reason=str(registries.why_not())),
]

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
LEFTOVER = VmId(900_000_000 + os.getpid())
Fault = Callable[[Scene], AbstractAsyncContextManager[int]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(nothing_leaks: None) -> AsyncIterator[Scene]:
    async with Scene() as ready:
        yield ready


@asynccontextmanager
async def engine_down(scene: Scene) -> AsyncIterator[int]:
    await asyncio.to_thread(scene.engine.stop_dockerd)
    try:
        yield scene.steady
    finally:
        await asyncio.to_thread(scene.engine.start_dockerd)


@asynccontextmanager
async def engine_frozen(scene: Scene) -> AsyncIterator[int]:
    with stopped(scene.engine.dockerd_pid):
        yield scene.steady


@asynccontextmanager
async def agent_down(scene: Scene) -> AsyncIterator[int]:
    await asyncio.to_thread(scene.cloud.agent.kill)
    try:
        yield scene.steady
    finally:
        await asyncio.to_thread(scene.cloud.agent.start)


@asynccontextmanager
async def agent_frozen(scene: Scene) -> AsyncIterator[int]:
    with stopped(scene.cloud.agent.pid):
        yield scene.steady


@asynccontextmanager
async def agent_disk_full(scene: Scene) -> AsyncIterator[int]:
    with filled(scene.cloud.directory / "agent"):
        async with scene.vm() as vm:
            yield vm


@asynccontextmanager
async def agent_disk_read_only(scene: Scene) -> AsyncIterator[int]:
    with read_only(scene.cloud.directory / "agent"):
        async with scene.vm() as vm:
            yield vm


@asynccontextmanager
async def journal_disk_full(scene: Scene) -> AsyncIterator[int]:
    with filled(scene.cloud.directory / "controller"):
        async with scene.vm() as vm:
            yield vm


@asynccontextmanager
async def registry_down(scene: Scene) -> AsyncIterator[int]:
    image = await scene.fresh_image()
    await asyncio.to_thread(scene.registry.stop)
    try:
        async with scene.vm(image) as vm:
            yield vm
    finally:
        await asyncio.to_thread(scene.registry.start)


@asynccontextmanager
async def image_deleted(scene: Scene) -> AsyncIterator[int]:
    image = await scene.fresh_image()
    source = (await scene.cloud.one.document("one.image.info", image)).findtext("SOURCE", "")
    scene.delete_manifest(source)
    async with scene.vm(image) as vm:
        yield vm


@asynccontextmanager
async def wrong_registry_password(scene: Scene) -> AsyncIterator[int]:
    async with scene.protected_registry() as (auths, image):
        scene.write_password(auths, "onedock:wrong")
        async with scene.vm(image) as vm:
            yield vm


@asynccontextmanager
async def runtime_not_registered(scene: Scene) -> AsyncIterator[int]:
    async with scene.engine_option(lambda options: options.update(runtimes={})), scene.vm() as vm:
        yield vm


@asynccontextmanager
async def wrapper_missing(scene: Scene) -> AsyncIterator[int]:
    with moved_away(scene.wrapper):
        async with scene.vm() as vm:
            yield vm


@asynccontextmanager
async def live_restore_off(scene: Scene) -> AsyncIterator[int]:
    async with scene.engine_option(lambda options: options.update({"live-restore": False})):
        yield scene.steady


@asynccontextmanager
async def oned_down(scene: Scene) -> AsyncIterator[int]:
    await scene.cloud.one.kill9()
    try:
        yield scene.steady
    finally:
        await scene.cloud.one.start()


@asynccontextmanager
async def oned_frozen(scene: Scene) -> AsyncIterator[int]:
    with stopped(scene.cloud.one.pid):
        yield scene.steady


@asynccontextmanager
async def wrong_one_password(scene: Scene) -> AsyncIterator[int]:
    auth = scene.cloud.one.auth_file
    right = auth.read_text()
    auth.write_text("oneadmin:wrong\n")
    try:
        yield scene.steady
    finally:
        auth.write_text(right)


@asynccontextmanager
async def driver_gone(scene: Scene, kind: str) -> AsyncIterator[int]:
    """oned starts its driver again, which finds no controller."""
    with moved_away(scene.cloud.driver_socket):
        os.kill(scene.cloud.one.driver_pid(f"onedock-{kind}"), signal.SIGKILL)
        yield scene.steady


@asynccontextmanager
async def controller_down(scene: Scene) -> AsyncIterator[int]:
    await asyncio.to_thread(scene.cloud.controller.kill)
    try:
        yield scene.steady
    finally:
        await asyncio.to_thread(scene.cloud.controller.start)


@asynccontextmanager
async def settings_broken(scene: Scene) -> AsyncIterator[int]:
    path = scene.cloud.directory / "onedock.toml"
    text = path.read_text()
    path.write_text(text.replace("stop_grace_s", "stop_grass_s"))
    try:
        yield scene.steady
    finally:
        path.write_text(text)


@asynccontextmanager
async def phydev_missing(scene: Scene) -> AsyncIterator[int]:
    network = f'NAME="physical-{time.time_ns()}"\nVN_MAD="bridge"\nBRIDGE="{BRIDGE}"\nPHYDEV="nosuch0"\n'
    network += 'AR=[TYPE="IP4", IP="10.78.0.10", SIZE="9"]'
    number = await scene.cloud.one.call("one.vn.allocate", network, -1)
    async with scene.vm(nic=False, more=f'NIC=[NETWORK_ID="{number}"]\nCONTEXT=[NETWORK="YES"]\n') as vm:
        yield vm


@asynccontextmanager
async def nic_driver_unsupported(scene: Scene) -> AsyncIterator[int]:
    network = f'NAME="elastic-{time.time_ns()}"\nVN_MAD="elastic"\nBRIDGE="br0"\n'
    network += 'AR=[TYPE="IP4", IP="10.79.0.10", SIZE="9"]'
    number = await scene.cloud.one.call("one.vn.allocate", network, -1)
    async with scene.vm(nic=False, more=f'NIC=[NETWORK_ID="{number}"]\nCONTEXT=[NETWORK="YES"]\n') as vm:
        yield vm


@asynccontextmanager
async def link_name_taken(scene: Scene) -> AsyncIterator[int]:
    async with scene.held_vm() as vm:
        scene.engine.run_in_netns(["ip", "link", "add", f"one-{vm}-0", "type", "bridge"])
        try:
            await scene.cloud.deploy(vm)
            yield vm
        finally:
            scene.engine.run_in_netns(["ip", "link", "delete", f"one-{vm}-0"])


@asynccontextmanager
async def address_taken(scene: Scene) -> AsyncIterator[int]:
    """Somebody on the network has it, of whom OpenNebula knows nothing."""
    probing = ("[controller]", "[networks]\nprobe_addresses = true\n\n[controller]")
    async with scene.settings(probing), scene.held_vm() as vm:
        address = (await scene.cloud.one.document("one.vm.info", vm)).findtext("TEMPLATE/NIC/IP", "")
        scene.engine.run_in_netns(["ip", "address", "add", f"{address}/32", "dev", BRIDGE])
        try:
            await scene.cloud.deploy(vm)
            yield vm
        finally:
            scene.engine.run_in_netns(["ip", "address", "delete", f"{address}/32", "dev", BRIDGE])


@asynccontextmanager
async def foreign_container(scene: Scene) -> AsyncIterator[int]:
    image = load(scene.engine)
    async with scene.held_vm() as vm:
        body = {"Image": image, "HostConfig": {"NetworkMode": "none"}}
        made = scene.engine.api("POST", f"/containers/create?name=one-{vm}", body)
        try:
            await scene.cloud.deploy(vm)
            yield vm
        finally:
            scene.engine.api("DELETE", f"/containers/{made['Id']}?force=1")


@asynccontextmanager
async def not_placed(scene: Scene) -> AsyncIterator[int]:
    async with scene.held_vm() as vm:
        yield vm


@asynccontextmanager
async def host_not_in_settings(scene: Scene) -> AsyncIterator[int]:
    host = await scene.cloud.one.call("one.host.allocate", "ghost", "onedock", "onedock", -1)
    async with scene.held_vm() as vm:
        await scene.cloud.one.call("one.vm.deploy", vm, host, False, scene.cloud.system_ds, "")
        yield vm
    await scene.cloud.one.wait_for_vm(vm, VmState.DONE)
    await scene.cloud.one.call("one.host.delete", host)


@asynccontextmanager
async def removed_by_hand(scene: Scene) -> AsyncIterator[int]:
    async with scene.running_vm() as vm:
        scene.engine.api("DELETE", f"/containers/{scene.container(vm)['Id']}?force=1")
        yield vm


@asynccontextmanager
async def killed(scene: Scene) -> AsyncIterator[int]:
    async with scene.running_vm() as vm:
        os.kill(scene.container(vm)["State"]["Pid"], signal.SIGKILL)
        yield vm


@asynccontextmanager
async def paused_by_hand(scene: Scene) -> AsyncIterator[int]:
    async with scene.running_vm() as vm:
        scene.engine.api("POST", f"/containers/{scene.container(vm)['Id']}/pause")
        yield vm


@asynccontextmanager
async def out_of_memory(scene: Scene) -> AsyncIterator[int]:
    eater = Image(cmd=("sh", "-c", "sleep 0.5; x=a; while :; do x=$x$x; done"))
    async with scene.vm(await scene.fresh_image(image=eater), memory=32) as vm:
        yield vm


@asynccontextmanager
async def memory_below_minimum(scene: Scene) -> AsyncIterator[int]:
    async with scene.vm(memory=1) as vm:
        yield vm


@asynccontextmanager
async def command_missing(scene: Scene) -> AsyncIterator[int]:
    image = await scene.fresh_image(more='DOCKERRUN="/no/such/program --flag"\n')
    async with scene.vm(image) as vm:
        yield vm


@asynccontextmanager
async def user_missing(scene: Scene) -> AsyncIterator[int]:
    async with scene.vm(await scene.fresh_image(image=Image(user="nobody-here"))) as vm:
        yield vm


@asynccontextmanager
async def data_disk(scene: Scene) -> AsyncIterator[int]:
    async with scene.vm(more='DISK=[TYPE="fs", SIZE="10", FORMAT="raw"]\n') as vm:
        yield vm


@asynccontextmanager
async def environment_broken(scene: Scene) -> AsyncIterator[int]:
    async with scene.vm(more='DOCKER_ENV="NAME=value loose"\n') as vm:
        yield vm


@asynccontextmanager
async def verb_unsupported(scene: Scene) -> AsyncIterator[int]:
    await scene.cloud.action(scene.steady, "suspend")
    yield scene.steady


@asynccontextmanager
async def clock_off(scene: Scene) -> AsyncIterator[int]:
    assert FAKETIME is not None
    await asyncio.to_thread(scene.cloud.agent.stop)
    environment = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "-15m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    usual = scene.cloud.agent._environment
    scene.cloud.agent._environment = usual | environment
    try:
        await asyncio.to_thread(scene.cloud.agent.start)
        yield scene.steady
    finally:
        await asyncio.to_thread(scene.cloud.agent.stop)
        scene.cloud.agent._environment = usual
        await asyncio.to_thread(scene.cloud.agent.start)


@asynccontextmanager
async def bridge_filtered(scene: Scene) -> AsyncIterator[int]:
    """As Docker leaves a machine whose bridges are filtered."""
    enter = [
        "nft",
        "add table ip onedock_test; add chain ip onedock_test f { type filter hook forward priority 0; policy drop; }",
    ]
    scene.engine.run_in_netns(["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"])
    scene.engine.run_in_netns(enter)
    try:
        yield scene.steady
    finally:
        scene.engine.run_in_netns(["nft", "delete table ip onedock_test"])


@asynccontextmanager
async def leftover_container(scene: Scene) -> AsyncIterator[int]:
    body = {
        "Image": load(scene.engine),
        "Labels": {"org.onedock.vm": "99999999"},
        "HostConfig": {"NetworkMode": "none"},
    }
    made = scene.engine.api("POST", "/containers/create?name=one-99999999", body)
    try:
        yield scene.steady
    finally:
        scene.engine.api("DELETE", f"/containers/{made['Id']}?force=1")


@asynccontextmanager
async def leftover_namespace(scene: Scene) -> AsyncIterator[int]:
    async with AgentClient(scene.cloud.directory / "agent.sock") as agent:
        await agent.ensure(Network(LEFTOVER))
        try:
            yield scene.steady
        finally:
            await agent.remove(LEFTOVER)


@asynccontextmanager
async def system_datastore_unfit(scene: Scene) -> AsyncIterator[int]:
    template = 'NAME="blocks"\nTYPE="SYSTEM_DS"\nTM_MAD="ceph"'
    number = await scene.cloud.one.call("one.datastore.allocate", template, -1)
    try:
        yield scene.steady
    finally:
        await scene.cloud.one.call("one.datastore.delete", number)


@asynccontextmanager
async def vmm_gone(scene: Scene) -> AsyncIterator[int]:
    async with driver_gone(scene, "vmm") as vm:
        yield vm


@asynccontextmanager
async def im_gone(scene: Scene) -> AsyncIterator[int]:
    async with driver_gone(scene, "im") as vm:
        yield vm


OF_THE_VM = "VM {vm} .*{explain}"
"""Doctor says of the VM what explain does."""


@dataclass(frozen=True)
class Row:
    """A fault, and what names it. Empty: that command has nothing to say about it."""

    fault: Fault
    explain: str = ""
    doctor: str = ""


TABLE = (
    Row(
        engine_down, "engine of node node1: the engine cannot be reached", "engine of node node1: the engine cannot be"
    ),
    Row(engine_frozen, "engine of node node1: .*(not|no) answer", "engine of node node1: .*(not|no) answer"),
    Row(agent_down, "agent of node node1: .*cannot be reached", "agent of node node1: .*cannot be reached"),
    Row(agent_frozen, "agent of node node1: .*(not|no) answer", "agent of node node1: .*(not|no) answer"),
    Row(agent_disk_full, "No space left on device", "agent of node node1 cannot write .*No space left"),
    Row(agent_disk_read_only, "Read-only file system", "agent of node node1 cannot write .*Read-only file system"),
    Row(journal_disk_full, "the journal .* cannot be written: .*full", "the journal .*full"),
    Row(
        registry_down,
        "the image cannot be pulled: .*(EOF|refused|reset)",
        "the registry cannot be used: 127.0.0.1:.* refuses connections",
    ),
    Row(image_deleted, "clone failed: the registry does not have the image", OF_THE_VM),
    Row(wrong_registry_password, "clone failed: the registry refuses the credentials", "the registry cannot .*denied"),
    Row(runtime_not_registered, "[Rr]untime .*onedock", "runtime 'onedock' is not registered"),
    Row(wrapper_missing, "onedock-runtime.*no such file", "its file .*onedock-runtime is missing"),
    Row(live_restore_off, doctor="live-restore is off in the engine of node node1"),
    Row(oned_down, "oned does not answer at http://", "oned does not answer at http://"),
    Row(oned_frozen, "oned does not answer at http://", "(oned does not|no) answer"),
    Row(wrong_one_password, "oned refuses the credentials", "oned refuses the credentials"),
    Row(vmm_gone, "the driver onedock-vmm is not connected", "the driver onedock-vmm is not connected"),
    Row(im_gone, "the driver onedock-im is not connected", "the driver onedock-im is not connected"),
    Row(controller_down, "the controller does not run", "the controller does not run"),
    Row(settings_broken, "stop_grass_s", "stop_grass_s"),
    Row(phydev_missing, "DEPLOY failed: physical device nosuch0 is missing", OF_THE_VM),
    Row(nic_driver_unsupported, "DEPLOY failed: .*VN_MAD='elastic' is not supported", OF_THE_VM),
    Row(link_name_taken, "DEPLOY failed: link one-.*-0 exists on this node and is not ONEDock's", OF_THE_VM),
    Row(address_taken, "DEPLOY failed: address .* of NIC 0 is taken by [0-9a-f:]{17}", OF_THE_VM),
    Row(foreign_container, "DEPLOY failed: the name one-.* is taken by a container that is not ONEDock's", OF_THE_VM),
    Row(not_placed, "OpenNebula has not placed the VM on a host"),
    Row(host_not_in_settings, "host 'ghost' is no node of ONEDock", "host 'ghost' .*no table in the settings"),
    Row(removed_by_hand, "the container was removed by hand", OF_THE_VM),
    Row(killed, r"exit code 137 \(SIGKILL\)", OF_THE_VM),
    Row(paused_by_hand, "the container was paused by hand", OF_THE_VM),
    Row(out_of_memory, "ran out of memory", OF_THE_VM),
    Row(memory_below_minimum, "DEPLOY failed: .*[Mm]inimum memory", OF_THE_VM),
    Row(command_missing, 'DEPLOY failed: the command "/no/such/program" is not in the image', OF_THE_VM),
    Row(user_missing, 'DEPLOY failed: the user "nobody-here" is not in the image', OF_THE_VM),
    Row(data_disk, "(mkimage|DEPLOY) failed: .*not supported", OF_THE_VM),
    Row(environment_broken, "DEPLOY failed: DOCKER_ENV must be NAME=value", OF_THE_VM),
    Row(verb_unsupported, "the last request, SAVE, failed: not supported yet"),
    Row(clock_off, doctor="the clock of node node1 is .* s behind"),
    Row(bridge_filtered, doctor="br_netfilter is on and the FORWARD chain drops"),
    Row(leftover_container, doctor="container one-99999999 on node node1 belongs to no VM"),
    Row(leftover_namespace, doctor=f"namespace one-{LEFTOVER} on node node1 belongs to no VM"),
    Row(system_datastore_unfit, doctor="system datastore blocks has TM_MAD=ceph"),
)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.fault.__name__)
async def test_the_true_cause_is_named(scene: Scene, row: Row) -> None:
    if row.fault is clock_off and FAKETIME is None:
        pytest.skip("libfaketime is not installed")
    if row.fault is bridge_filtered and not Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        pytest.skip("the kernel has no br_netfilter")
    async with row.fault(scene) as vm:
        if row.explain:
            await eventually(lambda: _explained(scene, vm, row.explain), within=40, what=f"explain says {row.explain}")
        if row.doctor:
            wanted = row.doctor.format(vm=vm, explain=row.explain) if row.doctor == OF_THE_VM else row.doctor
            await eventually(lambda: _diagnosed(scene, wanted), within=30, what=f"doctor says {wanted}")
    await eventually(lambda: _sound(scene), within=40, what="the VM that was there before is as it should be")


async def _explained(scene: Scene, vm: int, cause: str) -> bool:
    _, output, errors = await scene.command("explain", str(vm))
    first = (output or errors).partition("\n")[0]
    assert re.search(cause, first), first
    return True


async def _diagnosed(scene: Scene, cause: str) -> bool:
    findings = await scene.findings()
    assert any(re.search(cause, finding["cause"]) and finding["remedy"] for finding in findings), findings
    return True


async def _sound(scene: Scene) -> bool:
    cause = await scene.cause(scene.steady)
    assert cause.startswith("nothing blocks it"), cause
    return True


async def test_what_is_safe_is_mended_and_nothing_else(scene: Scene) -> None:
    async with leftover_container(scene), leftover_namespace(scene):
        await eventually(lambda: _diagnosed(scene, f"namespace one-{LEFTOVER}"), within=20, what="doctor finds it")
        _, output, _ = await scene.command("doctor", "--fix")
        assert f"removed namespace one-{LEFTOVER} on node node1" in output
        causes = [finding["cause"] for finding in await scene.findings()]
        assert not any(f"namespace one-{LEFTOVER}" in cause for cause in causes)
        assert any("container one-99999999" in cause for cause in causes)


async def test_a_request_is_dropped_by_hand_and_that_is_told(scene: Scene) -> None:
    async with registry_down(scene) as vm:
        await eventually(lambda: _explained(scene, vm, "cannot be pulled"), within=30, what="the transfer is stuck")
        _, output, _ = await scene.command("intents", "--vm", str(vm), "--pending", "--json")
        (row,) = json.loads(output)
        assert (row["action"], row["state"]) == ("clone", "open")
        status, output, _ = await scene.command("retry", str(row["id"]), "--yes")
        assert (status, "tried now" in output) == (0, True)
        status, output, _ = await scene.command("drop", str(row["id"]), "--yes")
        assert (status, "fails in PROLOG" in output) == (0, True)
        _, output, _ = await scene.command("intents", "--vm", str(vm), "--json")
        (kept,) = [one["changes"] for one in json.loads(output) if one["id"] == row["id"]]
        assert [(change["change"], change["user"]) for change in kept] == [("retry", "root"), ("drop", "root")]
        await scene.cloud.reaches(vm, LcmState.PROLOG_FAILURE)
        await eventually(lambda: _explained(scene, vm, "clone failed: dropped by root"), what="explain says who did it")
        _, output, _ = await scene.command("log", str(vm), "--level", "warning")
        assert re.search("request is tried now by hand .*user=root", output)
        assert re.search("request is dropped by hand .*user=root", output)
        status, _, errors = await scene.command("drop", str(row["id"]), "--yes")
        assert status == 1
        assert f"onevm recover --retry {vm}" in errors


async def test_status_log_and_plan_of_a_sound_cloud(scene: Scene) -> None:
    status, output, _ = await scene.command("status")
    assert status == 0
    assert re.search(rf"{scene.steady} +steady +node1 +running", output)
    assert "vmm up, im up" in output
    assert f"registry {scene.registry.address} up" in output
    _, output, _ = await scene.command("status", str(scene.steady), environment={"COLUMNS": "80"})
    assert "eth0  up" in output
    _, output, _ = await scene.command("plan", str(scene.steady))
    assert "nothing to do" in output
    _, output, _ = await scene.command("log", str(scene.steady), "--json", "--since", "1h", "--level", "error")
    assert all(json.loads(line)["level"] == "error" for line in output.splitlines())
    status, _, errors = await scene.command("log", "--since", "yesterday")
    assert (status, "is no time" in errors) == (1, True)
