"""A node without Open vSwitch that is asked for a port of one: that is refused, and all else goes on."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.agent import PrivateAgent

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import OvsPort, Switch

pytestmark = pytest.mark.root

VM = VmId(22090)
FIRST = Nic(0, "eth0", f"one-{VM}-0", "02:00:0a:4d:00:90", "odt-br0", addresses=("10.77.0.90/16",))
SECOND = replace(FIRST, index=1, name="eth1", host_name=f"one-{VM}-1", addresses=("10.77.1.90/16",))
SWITCHED = replace(SECOND, bridge="odt-ovs0", switch=Switch.OPENVSWITCH, ovs=OvsPort())


async def test_a_port_that_cannot_be_leaves_the_vm_as_it_was(tmp_path: Path) -> None:
    with PrivateAgent(under=("env", f"PATH={tmp_path}")) as agent:
        async with AgentClient(agent.socket) as client:
            await client.ensure(Network(VM, (FIRST,)))
            with pytest.raises(TerminalError, match="ovs-vsctl is missing on this node"):
                await client.ensure(Network(VM, (FIRST, SWITCHED)))
            seen = await client.observe(VM)
            assert seen is not None
            assert [one.nic.name for one in seen.nics] == ["eth0"]
            for nics in ((FIRST,), (FIRST, SECOND)):
                seen = await client.ensure(Network(VM, nics))
                assert [one.nic for one in seen.nics] == list(nics)
            await client.remove(VM)
            assert await client.list_vms() == ()
