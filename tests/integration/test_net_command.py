"""`onedock net` on a whole cloud: the way of a VM's frames by OpenNebula's names, and faults that no agent can heal."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support import engine as engines
from tests.support import registry as registries
from tests.support.cloud import BRIDGE, GATEWAY, Cloud
from tests.support.dhcp_server import DhcpServer
from tests.support.engine import PrivateEngine
from tests.support.registry import PrivateRegistry
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import VmState

pytestmark = [
    pytest.mark.root,
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(engines.why_not()), reason=str(engines.why_not())),
    pytest.mark.skipif(bool(registries.why_not()), reason=str(registries.why_not())),
]

PHYDEV, WIRE = "odt-nc0", "odt-nc1"
WIRED_BRIDGE = "odtbrnc"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(engine: PrivateEngine, registry: PrivateRegistry) -> AsyncIterator[Cloud]:
    async with Cloud(engine, registry) as ready:
        yield ready


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vm(cloud: Cloud) -> int:
    image = await cloud.image("net")
    return await cloud.running_vm(image, name="web")


def first_fault(answer: Any) -> Any:
    return next((nic["fault"] for nic in answer["nics"] if nic["fault"]), None)


async def test_a_whole_way_is_drawn(cloud: Cloud, vm: int) -> None:
    assert cloud.pings((await way(cloud, vm))["nics"][0]["addresses"][0].split("/")[0])
    text = await cloud.onedock("net", str(vm))
    lines = text.splitlines()
    assert lines[0] == f"VM {vm}: nothing is broken between its NICs and the wire"
    assert lines[1] == f"VM {vm} web  on node1"
    for words in ("network 'private' (bridge)", f"one-{vm}-0 up", f"bridge  {BRIDGE} up", "node only", GATEWAY):
        assert words in text
    assert "\x1b" not in text


async def way(cloud: Cloud, vm: int, *options: str) -> Any:
    return json.loads(await cloud.onedock("net", str(vm), "--json", *options))


async def test_a_gateway_that_went_is_found(cloud: Cloud, vm: int) -> None:
    cloud.engine.run_in_netns(["ip", "address", "del", f"{GATEWAY}/24", "dev", BRIDGE])
    try:
        fault = first_fault(await way(cloud, vm, "--probe"))
        text = await cloud.onedock("net", str(vm), "--probe")
    finally:
        cloud.engine.run_in_netns(["ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE])
    assert (fault["hop"], fault["reason"]) == ("gateway", f"gateway {GATEWAY} does not answer ARP")
    assert text.splitlines()[0].startswith(f"VM {vm} eth0: gateway {GATEWAY} does not answer ARP; ")
    assert first_fault(await way(cloud, vm, "--probe")) is None


@asynccontextmanager
async def another_vm(cloud: Cloud, network: str, nic: str) -> AsyncIterator[int]:
    """A running VM with one NIC in a network of its own."""
    number = await cloud.one.call("one.vn.allocate", network, -1)
    image = await cloud.image(f"net-{number}")
    template = f'NIC=[NETWORK_ID="{number}"{nic}]\nCONTEXT=[NETWORK="YES"]\n'
    vm = await cloud.running_vm(image, nic=False, more=template)
    try:
        yield vm
    finally:
        await cloud.action(vm, "terminate-hard")
        await eventually(lambda: cloud.container(vm) is None, within=20, what="the VM is gone")


async def test_a_device_without_carrier_is_found(cloud: Cloud) -> None:
    network = f"""NAME="wired"
VN_MAD="bridge"
BRIDGE="{WIRED_BRIDGE}"
PHYDEV="{PHYDEV}"
AR=[TYPE="IP4", IP="10.78.0.10", SIZE="20"]"""
    cloud.engine.run_in_netns(["ip", "link", "add", PHYDEV, "type", "veth", "peer", "name", WIRE])
    try:
        cloud.engine.run_in_netns(["ip", "link", "set", WIRE, "up"])
        async with another_vm(cloud, network, "") as vm:
            whole = await way(cloud, vm)
            assert first_fault(whole) is None
            assert whole["nics"][0]["device"]["name"] == PHYDEV
            cloud.engine.run_in_netns(["ip", "link", "set", WIRE, "down"])
            fault = first_fault(await way(cloud, vm))
            assert (fault["hop"], fault["reason"]) == ("physical device", f"{PHYDEV} has no carrier")
    finally:
        cloud.engine.run_in_netns(["ip", "link", "del", PHYDEV])


async def test_a_vm_by_dhcp_waits_visibly_and_runs_with_its_lease(cloud: Cloud, tmp_path: Path) -> None:
    network = f"""NAME="dynamic"
VN_MAD="bridge"
BRIDGE="{BRIDGE}"
AR=[TYPE="ETHER", SIZE="20"]"""
    async with another_vm(cloud, network, ', METHOD="dhcp"') as vm:
        fault = first_fault(await way(cloud, vm))
        assert "waiting for a DHCP lease on eth0" in fault["reason"]
        assert "waiting for a DHCP lease on eth0" in (await cloud.onedock("explain", str(vm))).splitlines()[0]
        cloud.engine.run_in_netns(["ip", "address", "add", "10.5.0.1/24", "dev", BRIDGE])
        try:
            with DhcpServer(tmp_path / "dhcp", netns=cloud.engine.netns, link=BRIDGE, last="10.5.0.20") as server:
                await eventually(lambda: cloud.pings("10.5.0.20"), within=30, what="the VM has an address")
                [nic] = (await way(cloud, vm))["nics"]
                assert nic["fault"] is None
                assert nic["leased"].startswith("10.5.0.20/24 from ")
                await cloud.action(vm, "poweroff-hard")
                await cloud.reaches(vm, VmState.POWEROFF)
                await eventually(lambda: not server.leases(), within=20, what="the lease is given back")
        finally:
            cloud.engine.run_in_netns(["ip", "address", "del", "10.5.0.1/24", "dev", BRIDGE])


async def test_a_vm_that_nobody_knows_is_an_error_in_one_line(cloud: Cloud) -> None:
    with pytest.raises(AssertionError, match="onedock: ONEDock knows no VM 999999999; `onedock explain"):
        await cloud.onedock("net", "999999999")
