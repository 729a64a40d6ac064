"""Name servers of a NIC that comes and goes while a VM runs, told through OpenNebula, as a process of the VM reads."""

from collections.abc import AsyncIterator

import pytest
from tests.support.cloud import GATEWAY, Cloud
from tests.support.engine import PrivateEngine
from tests.support.registry import PrivateRegistry
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState

pytestmark = [pytest.mark.root, pytest.mark.engine]

BRIDGE, SERVERS = "odtbr2", "10.79.0.53 10.79.0.54"
FIRST, SECOND = f"nameserver {GATEWAY}", [f"nameserver {server}" for server in SERVERS.split()]


@pytest.fixture
async def cloud(engine: PrivateEngine, registry: PrivateRegistry) -> AsyncIterator[Cloud]:
    async with Cloud(engine, registry) as running:
        yield running


def resolver(cloud: Cloud, vm: int) -> list[str]:
    """What the VM's resolver reads, comments left out."""
    text = cloud.run_in(vm, "/bin/busybox", "cat", "/etc/resolv.conf")
    return [line for line in text.splitlines() if line[:1] not in {"#", ""}]


async def test_name_servers_of_a_nic_come_and_go(cloud: Cloud) -> None:
    template = (
        f'NAME="names"\nVN_MAD="bridge"\nBRIDGE="{BRIDGE}"\nDNS="{SERVERS}"\nNETWORK_MASK="255.255.255.0"\n'
        'AR=[TYPE="IP4", IP="10.79.0.10", SIZE="10"]'
    )
    network = await cloud.one.call("one.vn.allocate", template, -1)
    vm = await cloud.running_vm(await cloud.image("sleeper"))
    container = cloud.container(vm)
    assert resolver(cloud, vm) == [FIRST]

    await cloud.one.call("one.vm.attachnic", vm, f'NIC=[NETWORK_ID="{network}"]')
    await cloud.reaches(vm, LcmState.RUNNING)
    assert resolver(cloud, vm) == [FIRST, *SECOND]
    said = cloud.view(f"/vms/{vm}/path")
    assert [nic["dns"] for nic in said["nics"]] == [[GATEWAY], SERVERS.split()]
    assert said["resolver"] == {"servers": [GATEWAY, *SERVERS.split()], "search": [], "trouble": ""}

    await cloud.action(vm, "poweroff")
    await cloud.reaches(vm, VmState.POWEROFF)
    await cloud.action(vm, "resume")
    await cloud.reaches(vm, LcmState.RUNNING)
    await eventually(lambda: resolver(cloud, vm) == [FIRST, *SECOND], what="they are there after the start")

    await cloud.one.call("one.vm.detachnic", vm, 1)
    await cloud.reaches(vm, LcmState.RUNNING)
    assert resolver(cloud, vm) == [FIRST]
    now = cloud.container(vm)
    assert container is not None
    assert now is not None
    assert now["Id"] == container["Id"]
