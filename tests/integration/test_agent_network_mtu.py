"""What one guest sends at most is its own affair: a bridge, and who else is in it, keep what the network carries."""

import pytest
from tests.support.agent import PrivateAgent
from tests.support.plumbing import NEEDS_ROOT, nic
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, VmId

pytestmark = NEEDS_ROOT

A, B, C = VmId(280_170), VmId(280_171), VmId(280_172)
BRIDGE, PHYDEV = "odt-br0", "odt-p0"


@pytest.fixture(autouse=True)
def device(agent: PrivateAgent) -> None:
    """A physical device for jumbo frames."""
    agent.run(["ip", "link", "add", PHYDEV, "mtu", "9000", "type", "veth", "peer", f"{PHYDEV}x", "mtu", "9000"])


def mtu(agent: PrivateAgent, name: str, vm: VmId | None = None) -> int:
    return int(agent.ip("link", "show", name, netns=f"one-{vm}" if vm else None)[0]["mtu"])


def of_all(agent: PrivateAgent) -> list[int]:
    return [mtu(agent, BRIDGE), *(mtu(agent, "eth0", vm) for vm in (A, B))]


@pytest.mark.parametrize(("phydev", "carried"), [(None, 1500), (PHYDEV, 9000)])
async def test_a_guest_with_less_leaves_the_others_theirs(
    agent: PrivateAgent, client: AgentClient, phydev: str | None, carried: int
) -> None:
    small, plain = Network(A, (nic(A, phydev=phydev, mtu=1400),)), Network(B, (nic(B, phydev=phydev),))
    for network in (small, plain):
        assert (await client.ensure(network)).provides(network)
    assert of_all(agent) == [carried, 1400, carried]

    await client.remove(A)
    await client.ensure(small)
    assert of_all(agent) == [carried, 1400, carried], "also when the bridge is there already"

    await client.ensure(Network(A, (nic(A, phydev=phydev),)))
    assert of_all(agent) == [carried, carried, carried], "nothing says an MTU any more"

    await client.ensure(small)
    agent.run(["ip", "link", "set", f"one-{A}-0", "mtu", "1300"])
    await eventually(lambda: mtu(agent, f"one-{A}-0") >= 1500, what="put back")
    for wanted in (8000, 1280):
        await client.ensure(Network(A, (nic(A, phydev=phydev, mtu=wanted),)))
        assert mtu(agent, "eth0", A) == wanted
        assert mtu(agent, f"one-{A}-0") >= wanted


async def test_docker0_and_its_like_stay_as_they_are(agent: PrivateAgent, client: AgentClient) -> None:
    agent.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    agent.run(["ip", "link", "set", PHYDEV, "master", BRIDGE])
    assert mtu(agent, BRIDGE) == 9000
    for vm, wanted in ((A, 1400), (B, None), (C, 9000)):
        await client.ensure(Network(vm, (nic(vm, mtu=wanted),)))
    assert of_all(agent) == [9000, 1400, 9000]
