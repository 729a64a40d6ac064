"""802.1Q as somebody outside of the node sees it: which tags are on the wire."""

from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.kernel import requires
from tests.support.plumbing import nic
from tests.support.wire import PHYSICAL, is_cut_off, reaches, tagged

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import TrunkPort, Vlan

pytestmark = [pytest.mark.root, requires("8021q")]

A = VmId(260_011)
TAGGED = Vlan(f"{PHYSICAL}.10", PHYSICAL, 10)


def plugged(vm: VmId, uplink: Vlan = TAGGED, **changes: Any) -> Nic:
    return nic(vm, uplink=uplink, **changes)


async def test_frames_have_the_tag_on_the_wire(agent: PrivateAgent, wire: str, client: AgentClient) -> None:
    wanted = Network(A, (plugged(A),))
    made = await client.ensure(wanted)
    assert made.provides(wanted)
    assert made == await client.ensure(wanted)
    tagged(agent, wire, "wire0", 10, "10.77.0.99/24")
    assert reaches(agent, f"one-{A}", "10.77.0.99")

    # Neither without a tag nor with another one.
    agent.run(["ip", "address", "del", "10.77.0.99/24", "dev", "wire0.10"], netns=wire)
    agent.run(["ip", "address", "add", "10.77.0.99/24", "dev", "wire0"], netns=wire)
    assert is_cut_off(agent, f"one-{A}", "10.77.0.99")
    agent.run(["ip", "address", "del", "10.77.0.99/24", "dev", "wire0"], netns=wire)
    tagged(agent, wire, "wire0", 11, "10.77.0.99/24")
    assert is_cut_off(agent, f"one-{A}", "10.77.0.99")


async def test_inner_vlans_pass_a_trunk_and_others_do_not(agent: PrivateAgent, wire: str, client: AgentClient) -> None:
    """CVLANS: two tags on the wire, the outer one is the network's, the inner one the guest's."""
    await client.ensure(Network(A, (plugged(A, trunk=TrunkPort((20, 21), untagged=10)),)))
    tagged(agent, wire, "wire0", 10, "10.77.0.99/24")
    for inner in (20, 22):
        tagged(agent, wire, "wire0.10", inner, f"10.{inner}.0.2/24")
        tagged(agent, f"one-{A}", "eth0", inner, f"10.{inner}.0.1/24")
    assert reaches(agent, f"one-{A}", "10.20.0.2")
    assert is_cut_off(agent, f"one-{A}", "10.22.0.2")
