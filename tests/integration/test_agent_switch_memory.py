"""What tells whose a port of Open vSwitch is outlasts the node's power, as the port does."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.plumbing import NEEDS_ROOT, nic
from tests.support.waiting import eventually

from onedock.nodeside.agent.networks import NodeNetworks
from onedock.nodeside.agent.store import Store
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Network, VmId
from onedock.reconcilers.nic_parts import OvsPort, Switch

pytestmark = NEEDS_ROOT

VM = VmId(280_150)
PORT = replace(nic(VM), switch=Switch.OPENVSWITCH, ovs=OvsPort(tag=7))


class SlowDisk(Store):
    """A store whose disk takes its time, until it is told to be done."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.asked, self.done = threading.Event(), threading.Event()

    def flush(self, vm: VmId) -> None:
        self.asked.set()
        self.done.wait(10)
        super().flush(vm)


async def test_the_switch_is_asked_for_nothing_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, called = tmp_path / "bin" / "ovs-vsctl", tmp_path / "called"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho $* >> {called}\necho database connection failed >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    store = SlowDisk(tmp_path / "vms")
    networks = NodeNetworks(store, tmp_path / "runtime", tmp_path / "dhcp")
    try:
        asked = asyncio.create_task(networks.ensure(Network(VM, (PORT,))))
        await eventually(store.asked.is_set, what="the network is on its way to the disk")
        done, _ = await asyncio.wait({asked}, timeout=0.2)  # a failure is seen sooner; nothing is waited for
        assert not done
        assert not called.exists()
        store.done.set()
        with pytest.raises(TransientError, match="systemctl start openvswitch-switch"):
            await asked
        assert called.exists()
    finally:
        store.done.set()
        tool.unlink()
        await networks.remove(VM)
        await networks.close()
