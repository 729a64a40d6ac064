"""The packaged unit of the agent under a real systemd: its rights are enough, its watchdog bites, VMs outlive both."""

import os
import signal
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from tests.support import processes
from tests.support.kernel import requires
from tests.support.plumbing import nic

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import ContainerId, Network, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Direction, Protocol, SecurityRule, Spoofing, TrunkPort, Vlan

pytestmark = [pytest.mark.root, requires("systemd", "8021q")]

NAME = "onedock-agent.service"
UNITS = Path("/etc/systemd/system")
PROGRAM = Path("/usr/local/bin/onedock-agent")
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


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], check=False, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        log = subprocess.run(["journalctl", "-u", NAME, "-n", "40", "--no-pager"], capture_output=True, text=True)
        raise AssertionError(f"systemctl {' '.join(words)}: {done.stderr}{log.stdout}")
    return done.stdout


def shown(name: str) -> str:
    return systemctl("show", "--value", f"--property={name}", NAME).strip()


def is_namespace(path: str) -> bool:
    return subprocess.run(["nsenter", f"--net={path}", "true"], check=False).returncode == 0


@pytest.fixture
def unit() -> Iterator[None]:
    text = resources.files("onedock.install").joinpath(f"systemd/{NAME}").read_text()
    path = os.environ["PYTHONPATH"]
    PROGRAM.write_text(f"#!/bin/sh\nPYTHONPATH={path} exec python3 -m onedock.nodeside.agent\n")
    PROGRAM.chmod(0o755)
    (UNITS / NAME).write_text(text.replace("@bin@", str(PROGRAM.parent)))
    drop_in = UNITS / f"{NAME}.d"
    drop_in.mkdir()
    (drop_in / "soon.conf").write_text("[Service]\nWatchdogSec=6\nTimeoutAbortSec=2\n")
    subprocess.run(["ip", "link", "add", "odt-phy0", "type", "veth", "peer", "odt-phy1"], check=True)
    systemctl("daemon-reload")
    try:
        yield
    finally:
        systemctl("stop", NAME)
        subprocess.run(["ip", "link", "del", "odt-phy0"], check=True)
        for file in (PROGRAM, UNITS / NAME, drop_in / "soon.conf"):
            file.unlink()
        drop_in.rmdir()
        systemctl("daemon-reload")


async def test_it_starts_works_hangs_and_comes_back(unit: None) -> None:
    systemctl("start", NAME)
    assert (shown("ActiveState"), shown("SubState"), shown("Type")) == ("active", "running", "notify")
    async with AgentClient(SOCKET) as client:
        made = await client.ensure(WANTED)
        assert made.provides(WANTED)
        await client.bind(VM, CONTAINER)
        assert (await client.host_facts()).cgroup_version == 2
    assert is_namespace(f"/run/netns/one-{VM}"), "what it mounts is seen by others"

    first = int(shown("MainPID"))
    os.kill(first, signal.SIGSTOP)  # to systemd, one that hangs
    processes.wait_until(
        lambda: shown("ActiveState") == "active" and int(shown("MainPID")) not in {0, first},
        within=100,
        what="another one runs",
    )
    assert shown("NRestarts") == "1"
    async with AgentClient(SOCKET) as client:
        found = await client.observe(VM)
        assert found is not None
        assert found.provides(WANTED)
        assert found.containers == (CONTAINER,)
        await client.remove(VM)
        assert await client.list_vms() == ()
    assert not Path(f"/run/netns/one-{VM}").exists()
