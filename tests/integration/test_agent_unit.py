"""The agent's unit: the rights that it leaves are enough, and what the agent mounts is seen by runc."""

import asyncio
import os
import re
import subprocess
from importlib import resources
from pathlib import Path

import pytest
from tests.support.agent import PrivateAgent
from tests.support.contained import contained
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import ContainerId, Network, Nic, VmId

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

VM = VmId(26020)
UNIT = resources.files("onedock.install").joinpath("systemd/onedock-agent.service").read_text()
NETWORK = Network(
    VM,
    (
        Nic(
            index=0,
            name="eth0",
            host_name=f"one-{VM}-0",
            mac="02:00:0a:4e:00:20",
            bridge="odt-br26",
            addresses=("10.78.26.20/24", "fd78::20/64"),
            gateways=("10.78.26.1",),
            probe=True,
        ),
    ),
)
MOUNT_NAMESPACE = {
    "BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "ExtensionImages", "InaccessiblePaths",
    "LogNamespace", "MountFlags", "MountImages", "NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateMounts",
    "PrivateTmp", "PrivateUsers", "ProcSubset", "ProtectControlGroups", "ProtectHome", "ProtectKernelLogs",
    "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ProtectSystem", "ReadOnlyPaths",
    "ReadWritePaths", "RootDirectory", "RootImage", "TemporaryFileSystem",
}  # fmt: skip


def test_nothing_gives_it_a_mount_namespace() -> None:
    directives = re.findall(r"^(\w+)=", UNIT, re.MULTILINE)
    assert not MOUNT_NAMESPACE & set(directives)


async def test_its_capabilities_are_enough() -> None:
    [kept] = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT, re.MULTILINE)
    bounds = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in kept.split())])
    under = ["setpriv", "--no-new-privs", f"--bounding-set={bounds}", "--inh-caps=-all", "--"]
    with PrivateAgent(under=under) as agent:
        left = re.findall(r"^CapBnd:\s*(\w+)", Path(f"/proc/{agent.pid}/status").read_text(), re.MULTILINE)
        assert int(left[0], 16).bit_count() == len(kept.split())
        async with AgentClient(agent.socket) as client:
            made = await client.ensure(NETWORK)
            assert [nic.up for nic in made.nics] == [True]
            await client.announce(VM)
            agent.run(["ip", "link", "set", f"one-{VM}-0", "down"])
            subprocess.run(["ip", "netns", "delete", f"one-{VM}"], check=True)  # noqa: ASYNC221
            await eventually(lambda: _healed(client), within=10)
            assert "cannot be announced" not in agent.log.read_text()
            await client.bind(VM, ContainerId("ab" * 32))
            assert await client.vm_usage([(VM, ContainerId("ab" * 32), os.getpid())]) is not None
            async with contained("ab" * 32, f"one-{VM}"):
                await asyncio.to_thread(agent.kill)
                before = Path(f"/run/netns/one-{VM}").stat()
                subprocess.run(["ip", "netns", "delete", f"one-{VM}"], check=True)  # noqa: ASYNC221
                await asyncio.to_thread(agent.start)
                assert Path(f"/run/netns/one-{VM}").stat().st_ino == before.st_ino
            await client.host_usage()
            await client.remove(VM)
            assert await client.list_vms() == ()


async def _healed(client: AgentClient) -> bool:
    found = await client.observe(VM)
    return found is not None and found.provides(NETWORK)
