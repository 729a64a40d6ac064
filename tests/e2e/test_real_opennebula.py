"""The walkthrough on an existing OpenNebula 7.4 that has ONEDock installed; skipped without its address.

Variables: ``ONEDOCK_TEST_ONE_XMLRPC`` (endpoint), ``ONEDOCK_TEST_ONE_AUTH`` (user:password of an administrator),
``ONEDOCK_TEST_ONE_HOST`` (name of a host with VM_MAD=onedock), ``ONEDOCK_TEST_ONE_IMAGE`` (a ``docker://`` path whose
container stays alive), ``ONEDOCK_TEST_ONE_BRIDGE`` (an existing bridge of that host, default docker0). Whatever the
test makes it removes.
"""

import asyncio
import os
import uuid
import xmlrpc.client
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.support.waiting import eventually

from onedock.controller.oned import LCM_STATE, VM_STATE

ENDPOINT = os.environ.get("ONEDOCK_TEST_ONE_XMLRPC", "")

pytestmark = [
    pytest.mark.opennebula,
    pytest.mark.skipif(not ENDPOINT, reason="needs an existing OpenNebula: ONEDOCK_TEST_ONE_XMLRPC is not set"),
]

RUNNING = (VM_STATE.ACTIVE, LCM_STATE.RUNNING)


@dataclass
class RealOpenNebula:
    """Calls, and what has to be removed afterwards: newest first."""

    made: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    async def call(self, method: str, *args: Any) -> Any:
        session = os.environ["ONEDOCK_TEST_ONE_AUTH"]

        def ask() -> Any:
            with xmlrpc.client.ServerProxy(ENDPOINT) as server:
                return getattr(server, f"one.{method}")(session, *args)

        ok, value, *_ = await asyncio.to_thread(ask)
        assert ok, value
        return value

    async def make(self, kind: str, *args: Any, remove: tuple[Any, ...] = ()) -> int:
        number: int = await self.call(f"{kind}.allocate", *args)
        self.made.append((f"{kind}.delete", (number, *remove)))
        return number

    async def document(self, method: str, *args: Any) -> ElementTree.Element:
        return ElementTree.fromstring(await self.call(method, *args))

    async def host(self) -> int:
        wanted = os.environ["ONEDOCK_TEST_ONE_HOST"]
        pool = await self.document("hostpool.info")
        return next(int(host.findtext("ID", "")) for host in pool if host.findtext("NAME") == wanted)

    async def reaches(self, vm: int, state: tuple[int, int], *, within: float = 60) -> None:
        async def reached() -> bool:
            document = await self.document("vm.info", vm, False)
            now = (int(document.findtext("STATE", "")), int(document.findtext("LCM_STATE", "")))
            assert now == state, f"{now}, wanted {state}"
            return True

        await eventually(reached, within=within, what=f"VM {vm} reaches {state}")


@pytest.fixture
async def one() -> AsyncIterator[RealOpenNebula]:
    cloud = RealOpenNebula()
    yield cloud
    for method, args in reversed(cloud.made):

        async def removed(method: str = method, args: tuple[Any, ...] = args) -> bool:
            await cloud.call(method, *args)
            return True

        await eventually(removed, within=30, what=f"{method} {args}")


async def test_the_walkthrough(one: RealOpenNebula) -> None:
    run = uuid.uuid4().hex[:6]
    bridge = os.environ.get("ONEDOCK_TEST_ONE_BRIDGE", "docker0")
    images = await one.make("datastore", f'NAME="images-{run}"\nDS_MAD="onedock"\nTM_MAD="onedock"', -1)
    system = await one.make("datastore", f'NAME="system-{run}"\nTYPE="SYSTEM_DS"\nTM_MAD="onedock"', -1)
    network = await one.make(
        "vn",
        f'NAME="private-{run}"\nVN_MAD="bridge"\nBRIDGE="{bridge}"\nNETWORK_MASK="255.255.0.0"\n'
        'AR=[TYPE="IP4", IP="172.17.77.10", SIZE="10"]',
        -1,
    )

    async def monitored() -> bool:
        document = await one.document("datastore.info", images, False)
        return int(document.findtext("FREE_MB", "0")) > 0

    await eventually(monitored, within=60, what="the datastore is monitored")
    path = os.environ["ONEDOCK_TEST_ONE_IMAGE"]
    image = await one.make("image", f'NAME="image-{run}"\nTYPE="OS"\nPATH="{path}"', images, False, remove=(False,))

    async def ready() -> bool:
        return (await one.document("image.info", image, False)).findtext("STATE") == "1"

    await eventually(ready, within=120, what="the image is READY")
    template = (
        f'NAME="vm-{run}"\nCPU="0.5"\nMEMORY="64"\nDISK=[IMAGE_ID="{image}"]\n'
        f'NIC=[NETWORK_ID="{network}"]\nCONTEXT=[NETWORK="YES"]'
    )
    vm: int = await one.call("vm.allocate", template, True)
    try:
        await one.call("vm.deploy", vm, await one.host(), False, system, "")
        await one.reaches(vm, RUNNING)
        await one.call("vm.action", "poweroff-hard", vm)
        await one.reaches(vm, (VM_STATE.POWEROFF, 0))
        await one.call("vm.action", "resume", vm)
        await one.reaches(vm, RUNNING)
        await change_nics(one, vm, network, run)
        await one.call("vm.action", "reboot-hard", vm)
        await one.call("vm.action", "suspend", vm)  # refused, and the VM stays as it is
        await one.reaches(vm, RUNNING)
    finally:

        async def terminated() -> bool:
            await one.call("vm.action", "terminate-hard", vm)  # refused while something else is under way
            return True

        await eventually(terminated, within=30, what=f"VM {vm} is terminated")
        await one.reaches(vm, (VM_STATE.DONE, 0))


async def change_nics(one: RealOpenNebula, vm: int, network: int, run: str) -> None:
    """A NIC and an alias come and go, limits, groups, the network and the context change, while the VM runs."""

    async def ids(kind: str) -> list[str]:
        document = await one.document("vm.info", vm, False)
        assert document.findtext("USER_TEMPLATE/ERROR") is None
        return [item.text or "" for item in document.findall(f"TEMPLATE/{kind}/NIC_ID")]

    async def changed(method: str, *args: Any) -> None:
        await one.call(method, vm, *args)
        await one.reaches(vm, RUNNING)

    await changed("vm.attachnic", f'NIC=[NETWORK_ID="{network}"]')
    await changed("vm.attachnic", f'NIC_ALIAS=[NETWORK_ID="{network}", PARENT="NIC1"]')
    assert (await ids("NIC"), await ids("NIC_ALIAS")) == (["0", "1"], ["2"])
    await changed("vm.updatenic", 1, 'NIC=[INBOUND_AVG_BW="1000"]', 1)
    group = await one.make("secgroup", f'NAME="group-{run}"\nRULE=[PROTOCOL="ALL",RULE_TYPE="inbound"]')
    await changed("vm.attachsg", 0, group)
    await one.call("secgroup.update", group, 'RULE=[PROTOCOL="ICMP",RULE_TYPE="inbound"]', 0)
    await one.call("vn.update", network, "MTU=1400", 1)

    async def settled(kind: str, number: int) -> bool:
        document = await one.document(f"{kind}.info", number, False)
        assert document.find("ERROR_VMS/ID") is None
        return [item.text for item in document.findall("UPDATED_VMS/ID")] == [str(vm)]

    await eventually(lambda: settled("secgroup", group), within=30, what="the VM has the group's rules")
    await eventually(lambda: settled("vn", network), within=30, what="the VM has what its network says")
    await one.reaches(vm, RUNNING)
    await changed("vm.updateconf", 'CONTEXT=[NETWORK="YES", MORE="1"]', 0)
    await changed("vm.detachsg", 0, group)
    await changed("vm.detachnic", 2)
    await changed("vm.detachnic", 1)
    assert (await ids("NIC"), await ids("NIC_ALIAS")) == (["0"], [])
