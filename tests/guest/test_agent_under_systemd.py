"""The packaged unit of the agent under a real systemd: its rights are enough, its watchdog bites, VMs outlive both."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import processes
from tests.support.kernel import requires
from tests.support.plumbing import nic
from tests.support.units import Unit, installed

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import ContainerId, Network, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Direction, Protocol, SecurityRule, Spoofing, TrunkPort, Vlan

pytestmark = [pytest.mark.root, requires("systemd", "8021q")]

SOCKET = Path("/run/onedock/agent.sock")
VM = VmId(260_031)
CONTAINER = ContainerId("ab" * 32)
WANTED = Network(
    VM,
    (
        nic(
            VM,
            uplink=Vlan("odt-phy0.10", "odt-phy0", 10),
            trunk=TrunkPort((20,), untagged=10),
            inbound=Bandwidth(1_000_000),
            outbound=Bandwidth(1_000_000),
            rules=(SecurityRule(0, Direction.OUTBOUND, Protocol.ALL),),
            spoofing=Spoofing(mac=True, ip=True),
        ),
    ),
)


def is_namespace(path: str) -> bool:
    return subprocess.run(["nsenter", f"--net={path}", "true"], check=False).returncode == 0


@pytest.fixture
def unit() -> Iterator[Unit]:
    subprocess.run(["ip", "link", "add", "odt-phy0", "type", "veth", "peer", "odt-phy1"], check=True)
    try:
        with installed("agent", drop_in="WatchdogSec=6\nTimeoutAbortSec=2\n") as made:
            yield made
    finally:
        subprocess.run(["ip", "link", "del", "odt-phy0"], check=True)


async def test_it_starts_works_hangs_and_comes_back(unit: Unit) -> None:
    unit.systemctl("start")
    assert unit.shown("ActiveState", "SubState", "Type") == ("active", "running", "notify")
    async with AgentClient(SOCKET) as client:
        made = await client.ensure(WANTED)
        assert made.provides(WANTED)
        await client.bind(VM, CONTAINER)
        assert (await client.host_facts()).cgroup_version == 2
    assert is_namespace(f"/run/netns/one-{VM}"), "what it mounts is seen by others"

    first = unit.pid
    os.kill(first, signal.SIGSTOP)  # to systemd, one that hangs
    processes.wait_until(
        lambda: unit.shown("ActiveState") == ("active",) and unit.pid not in {0, first},
        within=100,
        what="another one runs",
    )
    assert unit.shown("NRestarts") == ("1",)
    async with AgentClient(SOCKET) as client:
        found = await client.observe(VM)
        assert found is not None
        assert found.provides(WANTED)
        assert found.containers == (CONTAINER,)
        await client.remove(VM)
        assert await client.list_vms() == ()
    assert not Path(f"/run/netns/one-{VM}").exists()
