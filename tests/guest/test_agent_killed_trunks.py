"""The agent is killed between what it remembers and what it does, on a kernel that has VLAN filtering.

See ``tests.integration.test_agent_killed`` for all that every kernel has.
"""

import pytest
from tests.guest.test_agent_vlans import link, vlans
from tests.support.agent import PrivateAgent
from tests.support.kernel import requires
from tests.support.plumbing import NEEDS_ROOT, nic

from onedock.nodeside.agent.store import Store
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import TrunkPort

pytestmark = [*NEEDS_ROOT, requires("8021q")]

A, B = VmId(280_200), VmId(280_201)
PLAIN = {1: ["PVID", "Egress Untagged"]}


@pytest.mark.parametrize("alone", [True, False])
async def test_a_trunk_goes(agent: PrivateAgent, wire: str, client: AgentClient, alone: bool) -> None:
    def trunked(vm: VmId, *tagged: int) -> Nic:
        return nic(vm, phydev="odt-phy0", trunk=TrunkPort(tagged))

    await client.ensure(Network(A, (trunked(A, 200, 300),)))
    if not alone:
        await client.ensure(Network(B, (trunked(B, 300, 400),)))
    assert {200, 300} <= set(vlans(agent, "odt-phy0"))

    agent.kill()
    after = Network(A, (nic(A, phydev="odt-phy0"),))
    Store(agent.state_dir / "vms").keep_network(after)
    agent.start()

    found = await client.observe(A)
    assert found is not None
    assert found.provides(after)
    assert vlans(agent, f"one-{A}-0") == PLAIN
    assert set(vlans(agent, "odt-phy0")) == ({1} if alone else {1, 300, 400})
    assert link(agent, "odt-br0")["linkinfo"]["info_data"]["vlan_filtering"] == int(not alone)
