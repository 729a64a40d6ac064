"""Networks on Open vSwitch: a real agent, a real ovs-vswitchd, the kernel's datapath."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from tests.support import processes
from tests.support.agent import PrivateAgent
from tests.support.kernel import requires
from tests.support.open_vswitch import BRIDGE, GuestSwitch, address, nic
from tests.support.processes import stopped
from tests.support.waiting import eventually
from tests.support.wire import PHYSICAL, is_cut_off, reaches, tagged

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import TerminalError, TransientError
from onedock.reconcilers.model import Network, VmId
from onedock.reconcilers.nic_parts import Bandwidth, OvsPort, Spoofing, Switch, Vxlan

pytestmark = [pytest.mark.root, requires("openvswitch", "8021q")]

A, B, C = VmId(260001), VmId(260002), VmId(260003)


@pytest.fixture(scope="module")
def running(agent: PrivateAgent) -> Iterator[GuestSwitch]:
    with GuestSwitch(agent.netns) as started:
        yield started


@pytest.fixture(autouse=True)
async def switch(running: GuestSwitch, client: AgentClient) -> AsyncIterator[GuestSwitch]:
    yield running
    for vm in await client.list_vms():
        await client.remove(vm)
    assert running.bridges() == {}


async def test_one_tag_talks_and_another_does_not(
    agent: PrivateAgent, client: AgentClient, switch: GuestSwitch
) -> None:
    wanted = Network(A, (nic(A, tag=10),))
    made = await client.ensure(wanted)
    assert made.provides(wanted)
    await client.ensure(Network(B, (nic(B, tag=10),)))
    await client.ensure(Network(C, (nic(C, tag=11),)))
    assert reaches(agent, f"one-{A}", address(B))
    assert is_cut_off(agent, f"one-{A}", address(C))
    assert switch.port(f"one-{A}-0") == {"tag": 10, "trunks": ["set", []], "vlan_mode": "access", "cvlans": ["set", []]}
    assert "onedock=yes" in switch.vsctl("get", "Bridge", BRIDGE, "external_ids").replace('"', "")

    # The tag changes on a port that stays.
    index = agent.ip("link", "show", f"one-{C}-0")[0]["ifindex"]
    await client.ensure(Network(C, (nic(C, tag=10),)))
    assert reaches(agent, f"one-{A}", address(C))
    assert agent.ip("link", "show", f"one-{C}-0")[0]["ifindex"] == index
    assert await client.ensure(wanted) == made

    await client.remove(B)
    assert switch.bridges() == {BRIDGE: {f"one-{A}-0", f"one-{C}-0"}}


async def test_a_tag_is_no_way_into_other_vlans(agent: PrivateAgent, client: AgentClient) -> None:
    await client.ensure(Network(A, (nic(A, tag=10),)))
    await client.ensure(Network(B, (nic(B, tag=11, addresses=("10.78.0.2/16",)),)))
    tagged(agent, f"one-{A}", "eth0", 11, "10.78.0.1/16")
    assert is_cut_off(agent, f"one-{A}", "10.78.0.2")


async def test_a_trunk_passes_its_vlans_only(agent: PrivateAgent, client: AgentClient) -> None:
    await client.ensure(Network(A, (nic(A, tag=10, trunks=(20, 21)),)))
    await client.ensure(Network(B, (nic(B, tag=10),)))
    await client.ensure(Network(C, (nic(C, tag=20, addresses=("10.78.0.3/16",)),)))
    tagged(agent, f"one-{A}", "eth0", 20, "10.78.0.1/16")
    assert reaches(agent, f"one-{A}", address(B))
    assert reaches(agent, f"one-{A}", "10.78.0.3")
    await client.ensure(Network(A, (nic(A, tag=10, trunks=(21,)),)))
    assert is_cut_off(agent, f"one-{A}", "10.78.0.3")


async def test_a_physical_device_carries_the_tags(
    agent: PrivateAgent, client: AgentClient, switch: GuestSwitch, wire: str
) -> None:
    await client.ensure(Network(A, (nic(A, tag=10, phydev=PHYSICAL),)))
    tagged(agent, wire, "wire0", 10, "10.77.9.9/16")
    assert reaches(agent, wire, address(A))
    agent.run(["ip", "addr", "add", "10.77.9.8/16", "dev", "wire0"], netns=wire)
    agent.run(["ip", "addr", "del", "10.77.9.9/16", "dev", "wire0.10"], netns=wire)
    assert is_cut_off(agent, wire, address(A))
    assert switch.bridges() == {BRIDGE: {f"one-{A}-0", PHYSICAL}}


async def test_two_tags_on_the_wire(agent: PrivateAgent, client: AgentClient, switch: GuestSwitch, wire: str) -> None:
    port = OvsPort(tag=10, cvlans=(8,), qinq_type="802.1ad")
    await client.ensure(Network(A, (nic(A, phydev=PHYSICAL, ovs=port),)))
    outer = ["ip", "link", "add", "link", "wire0", "name", "outer", "type", "vlan", "proto", "802.1ad", "id", "10"]
    agent.run(outer, netns=wire)
    agent.run(["ip", "link", "set", "outer", "up"], netns=wire)
    tagged(agent, wire, "outer", 8, "10.78.0.2/16")
    tagged(agent, wire, "outer", 9, "10.79.0.2/16")
    tagged(agent, f"one-{A}", "eth0", 8, "10.78.0.1/16")
    tagged(agent, f"one-{A}", "eth0", 9, "10.79.0.1/16")
    assert reaches(agent, f"one-{A}", "10.78.0.2")
    assert is_cut_off(agent, f"one-{A}", "10.79.0.2")
    assert switch.vsctl("get", "Open_vSwitch", ".", "other_config:vlan-limit") == '"2"'


async def test_a_tunnel_is_made_plugged_and_removed(
    agent: PrivateAgent, client: AgentClient, switch: GuestSwitch, wire: str
) -> None:
    agent.run(["ip", "addr", "add", "192.0.2.1/24", "dev", PHYSICAL])
    agent.run(["ip", "link", "set", PHYSICAL, "up"])
    agent.run(["ip", "addr", "add", "192.0.2.2/24", "dev", "wire0"], netns=wire)
    far = "ip link add far type vxlan id 77 remote 192.0.2.1 dev wire0 dstport 8472"
    agent.run(far.split(), netns=wire)
    agent.run(["ip", "addr", "add", "10.77.9.9/16", "dev", "far"], netns=wire)
    agent.run(["ip", "link", "set", "far", "up"], netns=wire)
    tunnel = Vxlan(f"{PHYSICAL}.77", PHYSICAL, 77, remotes=("192.0.2.2",))
    wanted = Network(A, (nic(A, uplink=tunnel, mtu=1450),))
    made = await client.ensure(wanted)
    assert made.provides(wanted)
    assert reaches(agent, f"one-{A}", "10.77.9.9")

    # Another network id: the link is made anew, and its port with it.
    other = replace(tunnel, vni=78, name=f"{PHYSICAL}.78")
    await client.ensure(Network(A, (nic(A, uplink=other, mtu=1450),)))
    assert switch.bridges() == {BRIDGE: {f"one-{A}-0", other.name}}
    assert is_cut_off(agent, f"one-{A}", "10.77.9.9")
    await client.ensure(Network(A, (nic(A, uplink=replace(other, vni=77), mtu=1450),)))
    assert reaches(agent, f"one-{A}", "10.77.9.9")


async def test_bridges_of_others_are_shared(agent: PrivateAgent, client: AgentClient, switch: GuestSwitch) -> None:
    switch.vsctl("add-br", BRIDGE)
    switch.vsctl("add-port", BRIDGE, "odt-theirs", "--", "set", "Interface", "odt-theirs", "type=internal")
    try:
        await client.ensure(Network(A, (nic(A, tag=10),)))
        await client.ensure(Network(B, (nic(B, tag=10),)))
        assert reaches(agent, f"one-{A}", address(B))
        await client.remove(A)
        await client.remove(B)
        assert switch.bridges() == {BRIDGE: {"odt-theirs"}}
    finally:
        switch.vsctl("del-br", BRIDGE)


async def test_an_empty_bridge_stays_if_asked_for(client: AgentClient, switch: GuestSwitch) -> None:
    options = OvsPort(bridge_options=(("other_config:mac-table-size", "4096"), ("stp_enable", "false")))
    await client.ensure(Network(A, (nic(A, keep_bridge=True, ovs=options),)))
    assert switch.vsctl("get", "Bridge", BRIDGE, "other_config:mac-table-size") == '"4096"'
    await client.remove(A)
    assert switch.bridges() == {BRIDGE: set()}
    await client.ensure(Network(A, (nic(A),)))
    await client.remove(A)
    assert switch.bridges() == {}


async def test_a_nic_changes_its_bridge(agent: PrivateAgent, client: AgentClient, switch: GuestSwitch) -> None:
    linux = nic(A, switch=Switch.LINUX, ovs=None, bridge="odt-br0")
    for wanted, bridges in (
        (linux, {}),
        (nic(A, tag=10), {BRIDGE: {f"one-{A}-0"}}),
        (nic(A, tag=10, bridge="odt-ovs1"), {"odt-ovs1": {f"one-{A}-0"}}),
        (linux, {}),
    ):
        made = await client.ensure(Network(A, (wanted,)))
        assert made.provides(Network(A, (wanted,)))
        assert switch.bridges() == bridges
    await client.ensure(Network(A, (nic(A), nic(A, index=1, name="eth1", host_name=f"one-{A}-1", addresses=()))))
    assert switch.bridges() == {BRIDGE: {f"one-{A}-0", f"one-{A}-1"}}
    await client.ensure(Network(A, (nic(A),)))
    assert switch.bridges() == {BRIDGE: {f"one-{A}-0"}}


async def test_what_somebody_undoes_is_put_back(agent: PrivateAgent, client: AgentClient, switch: GuestSwitch) -> None:
    wanted = Network(A, (nic(A, tag=10),))
    await client.ensure(wanted)
    await client.ensure(Network(B, (nic(B, tag=10),)))

    async def seen() -> bool:
        """The agent may have put it back before it was asked."""
        switch.vsctl("set", "Port", f"one-{A}-0", "tag=99")
        found = await client.observe(A)
        return found is not None and any("tag=10" in line for line in found.missing)

    await eventually(seen, what="the agent sees what is missing")
    assert not (await client.ensure(wanted)).missing
    assert switch.port(f"one-{A}-0")["tag"] == 10

    switch.vsctl("del-port", f"one-{A}-0")
    processes.wait_until(lambda: reaches(agent, f"one-{A}", address(B)), within=15, what="the port is back")
    agent.run(["ip", "netns", "del", f"one-{A}"])
    processes.wait_until(lambda: reaches(agent, f"one-{A}", address(B)), within=15, what="the namespace is back")


async def test_filters_come_before_the_switch(agent: PrivateAgent, client: AgentClient) -> None:
    await client.ensure(Network(A, (nic(A, spoofing=Spoofing(mac=True, ip=True)),)))
    await client.ensure(Network(B, (nic(B),)))
    assert reaches(agent, f"one-{A}", address(B))
    with stopped(agent.pid):  # which would put back at once what is changed here
        agent.run(["ip", "addr", "add", "10.77.5.5/16", "dev", "eth0"], netns=f"one-{A}")
        with pytest.raises(subprocess.CalledProcessError):
            agent.run(["busybox", "ping", "-c", "1", "-W", "1", "-I", "10.77.5.5", address(B)], netns=f"one-{A}")
        agent.run(["ip", "link", "set", "eth0", "address", "02:00:00:00:99:99"], netns=f"one-{A}")
        with pytest.raises(subprocess.CalledProcessError):
            agent.run(["busybox", "ping", "-c", "1", "-W", "1", address(B)], netns=f"one-{A}")


async def test_limits_are_on_the_port(agent: PrivateAgent, client: AgentClient) -> None:
    limit = Bandwidth(average=128 * 1024)
    await client.ensure(Network(A, (nic(A, inbound=limit, outbound=limit),)))
    for netns, link in ((None, f"one-{A}-0"), (f"one-{A}", "eth0")):
        shown = agent.run(["tc", "qdisc", "show", "dev", link, "root"], netns=netns)
        assert "tbf" in shown
        assert "rate 1048576bit" in shown.replace("1048Kbit", "1048576bit")


async def test_refusals_name_cause_and_remedy(agent: PrivateAgent, client: AgentClient, switch: GuestSwitch) -> None:
    agent.run(["ip", "link", "add", "odt-linux", "type", "bridge"])
    options = OvsPort(bridge_options=(("stp_enable", "perhaps"),))
    try:
        for wanted, cause in (
            (nic(A, bridge="odt-linux"), "odt-linux is no Open vSwitch bridge on this node but a bridge link"),
            (nic(A, phydev="odt-none"), "physical device odt-none is missing on this node"),
            (nic(A, ovs=options), "Open vSwitch refuses: .*perhaps"),
        ):
            with pytest.raises(TerminalError, match=cause):
                await client.ensure(Network(A, (wanted,)))
    finally:
        agent.run(["ip", "link", "del", "odt-linux"])
    switch.stop()
    try:
        with pytest.raises(TransientError, match="Open vSwitch did not do it within 5 s; is ovs-vswitchd running"):
            await client.ensure(Network(A, (nic(A),)))
    finally:
        switch.start()
    made = await client.ensure(Network(A, (nic(A),)))
    assert [one.up for one in made.nics] == [True]
