"""NICs and aliases that come and go while a VM runs, on the real engine and kernel, told through OpenNebula."""

import json
from collections.abc import AsyncIterator
from xml.etree.ElementTree import Element

import pytest
import pytest_asyncio
from tests.support.cloud import Cloud
from tests.support.echo import PORT, SERVE, conversation, listening
from tests.support.engine import PrivateEngine
from tests.support.images import Image
from tests.support.kept_cloud import KeptCloud
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

ECHO = Image(cmd=("sh", "-c", f"trap 'exit 0' TERM; {SERVE}"))
SECOND_BRIDGE = "odtbr1"
SECOND_GATEWAY = "10.78.0.1"


@pytest_asyncio.fixture(loop_scope="module")
async def cloud(engine: PrivateEngine, kept_cloud: KeptCloud) -> AsyncIterator[Cloud]:
    for command in (
        ["link", "add", SECOND_BRIDGE, "type", "bridge"],
        ["address", "add", f"{SECOND_GATEWAY}/24", "dev", SECOND_BRIDGE],
        ["link", "set", SECOND_BRIDGE, "up"],
    ):
        engine.run_in_netns(["ip", *command])
    try:
        async with kept_cloud.lent() as running:
            yield running
    finally:
        engine.run_in_netns(["ip", "link", "delete", SECOND_BRIDGE])


async def second_network(cloud: Cloud, bridge: str = SECOND_BRIDGE) -> int:
    """A network of its own, without a gateway; returns its id."""
    template = (
        f'NAME="storage-{bridge}"\nVN_MAD="bridge"\nBRIDGE="{bridge}"\nNETWORK_ADDRESS="10.78.0.0"\n'
        'NETWORK_MASK="255.255.255.0"\nAR=[TYPE="IP4", IP="10.78.0.10", SIZE="10"]'
    )
    network: int = await cloud.one.call("one.vn.allocate", template, -1)
    return network


async def changed(cloud: Cloud, vm: int, method: str, *arguments: object) -> Element:
    """Ask OpenNebula for a change, wait for its end, and return the VM's document."""
    await cloud.one.call(method, vm, *arguments)
    await cloud.reaches(vm, LcmState.RUNNING)
    return await cloud.one.vm(vm)


def run_of(cloud: Cloud, vm: int) -> tuple[str, str]:
    """Which run of which container."""
    container = cloud.container(vm)
    assert container is not None
    return container["Id"], container["State"]["StartedAt"]


def interfaces(cloud: Cloud, vm: int) -> dict[str, set[str]]:
    """Name → IPv4 addresses, as the VM itself sees them."""
    shown = cloud.engine.run_in_netns(["nsenter", f"--net=/run/netns/one-{vm}", "ip", "-j", "-4", "address"]).stdout
    return {
        link["ifname"]: {address["local"] for address in link["addr_info"]}
        for link in json.loads(shown)
        if link and link["ifname"] != "lo"
    }


async def test_a_nic_comes_and_goes_under_an_open_connection(cloud: Cloud) -> None:
    vm = await cloud.running_vm(await cloud.image("echo", ECHO))
    first = await listening(cloud, vm)
    before = run_of(cloud, vm)
    network = await second_network(cloud)
    async with conversation(cloud, first) as say:
        await say("alone")
        document = await changed(cloud, vm, "one.vm.attachnic", f'NIC=[NETWORK_ID="{network}"]')
        second = document.findtext("TEMPLATE/NIC[NIC_ID='1']/IP")
        assert second == "10.78.0.10"
        assert interfaces(cloud, vm) == {"eth0": {first}, "eth1": {second}}
        assert cloud.pings(second)
        await say("with two")
        async with conversation(cloud, second) as say_there:
            await say_there("hello")
        shown = cloud.view(f"/vms/{vm}/explain")
        assert {row["field"] for row in shown["fields"]} >= {"eth0", "eth1"}
        assert all(row["same"] for row in shown["fields"]), shown
        document = await changed(cloud, vm, "one.vm.detachnic", 1)
        assert len(document.findall("TEMPLATE/NIC")) == 1
        assert interfaces(cloud, vm) == {"eth0": {first}}
        assert not cloud.pings(second)
        assert f"one-{vm}-1" not in cloud.links()
        await say("alone again")
    assert run_of(cloud, vm) == before
    await cloud.action(vm, "terminate")
    await cloud.reaches(vm, VmState.DONE)


async def test_the_first_nic_may_go_and_the_names_of_others_stay(cloud: Cloud) -> None:
    vm = await cloud.running_vm(await cloud.image("echo", ECHO))
    network = await second_network(cloud)
    await changed(cloud, vm, "one.vm.attachnic", f'NIC=[NETWORK_ID="{network}"]')
    async with conversation(cloud, "10.78.0.10") as say:
        await say("here")
        await changed(cloud, vm, "one.vm.detachnic", 0)
        assert interfaces(cloud, vm) == {"eth1": {"10.78.0.10"}}
        await say("still here")


async def test_an_alias_comes_and_goes(cloud: Cloud) -> None:
    vm = await cloud.running_vm(await cloud.image("echo", ECHO))
    first = await listening(cloud, vm)
    async with conversation(cloud, first) as say:
        alias = f'NIC_ALIAS=[NETWORK_ID="{cloud.network}", PARENT="NIC0"]'
        document = await changed(cloud, vm, "one.vm.attachnic", alias)
        second = document.findtext("TEMPLATE/NIC_ALIAS/IP")
        assert second is not None
        assert interfaces(cloud, vm) == {"eth0": {first, second}}
        assert cloud.pings(second)
        await say("two names")
        document = await changed(cloud, vm, "one.vm.detachnic", 1)
        assert document.find("TEMPLATE/NIC_ALIAS") is None
        assert not document.findtext("TEMPLATE/NIC/ALIAS_IDS")
        assert interfaces(cloud, vm) == {"eth0": {first}}
        assert not cloud.pings(second)
        await say("one name")


async def test_what_cannot_be_plugged_leaves_the_vm_as_it_was(cloud: Cloud) -> None:
    vm = await cloud.running_vm(await cloud.image("echo", ECHO))
    first = await listening(cloud, vm)
    before = run_of(cloud, vm)
    network = await second_network(cloud, bridge="lo")
    async with conversation(cloud, first) as say:
        await say("before")
        document = await changed(cloud, vm, "one.vm.attachnic", f'NIC=[NETWORK_ID="{network}"]')
        assert "ATTACHNIC" in (document.findtext("USER_TEMPLATE/ERROR") or "")
        assert len(document.findall("TEMPLATE/NIC")) == 1
        assert interfaces(cloud, vm) == {"eth0": {first}}
        assert {link for link in cloud.links() if link.startswith("one-")} == {f"one-{vm}-0"}
        await say("after")
    await cloud.settled()
    condition = next(c for c in cloud.view(f"/vms/{vm}/explain")["conditions"] if c["name"] == "Network")
    assert (condition["ok"], condition["reason"]) == (False, "AttachnicFailed")
    assert run_of(cloud, vm) == before


async def test_a_nic_attached_while_powered_off_is_there_after_resume(cloud: Cloud) -> None:
    vm = await cloud.running_vm(await cloud.image("echo", ECHO))
    await cloud.action(vm, "poweroff-hard")
    await cloud.reaches(vm, VmState.POWEROFF)
    network = await second_network(cloud)
    await cloud.one.call("one.vm.attachnic", vm, f'NIC=[NETWORK_ID="{network}"]')
    await cloud.settled()
    assert f"one-{vm}" not in cloud.namespaces()
    await cloud.action(vm, "resume")
    await cloud.reaches(vm, LcmState.RUNNING)
    assert set(interfaces(cloud, vm)) == {"eth0", "eth1"}
    assert cloud.pings("10.78.0.10")


async def open_to(cloud: Cloud, address: str) -> bool:
    """Whether a new connection reaches the echo."""
    try:
        async with conversation(cloud, address, within=5) as say:
            await say("knock")
    except (AssertionError, TimeoutError):
        return False
    return True


async def closed_to(cloud: Cloud, address: str) -> bool:
    """Whether a new connection does not reach the echo."""
    return not await open_to(cloud, address)


async def group_settles(cloud: Cloud, group: int, vm: int) -> None:
    """Wait until OpenNebula knows that the VM has the group's rules."""

    async def updated() -> bool:
        document = await cloud.one.document("one.secgroup.info", group)
        assert [item.text for item in document.findall("ERROR_VMS/ID")] == []
        return [item.text for item in document.findall("UPDATED_VMS/ID")] == [str(vm)]

    await eventually(updated, what=f"VM {vm} has the rules of group {group}")


async def test_rules_change_under_an_open_connection(cloud: Cloud) -> None:
    echo_only = f'RULE=[PROTOCOL="TCP",RULE_TYPE="inbound",RANGE="{PORT}"]\nRULE=[PROTOCOL="ALL",RULE_TYPE="outbound"]'
    ping_only = 'RULE=[PROTOCOL="ICMP",RULE_TYPE="inbound"]\nRULE=[PROTOCOL="ALL",RULE_TYPE="outbound"]'
    group = await cloud.one.call("one.secgroup.allocate", f'NAME="web"\n{echo_only}')
    network = await cloud.one.call(
        "one.vn.allocate",
        f'NAME="guarded"\nVN_MAD="fw"\nBRIDGE="{SECOND_BRIDGE}"\nNETWORK_MASK="255.255.255.0"\n'
        'AR=[TYPE="IP4", IP="10.78.0.10", SIZE="10"]',
        -1,
    )
    # OpenNebula puts every new network into group 0.
    await cloud.one.call("one.vn.update", network, f'SECURITY_GROUPS="{group}"', 1)
    nic = f'NIC=[NETWORK_ID="{network}"]\nCONTEXT=[NETWORK="YES"]'
    vm = await cloud.running_vm(await cloud.image("echo", ECHO), nic=False, more=nic)
    before = run_of(cloud, vm)
    address = await listening(cloud, vm)
    assert not cloud.pings(address)
    async with conversation(cloud, address) as say:
        await say("allowed")
        await cloud.one.call("one.secgroup.update", group, ping_only, 0)
        await group_settles(cloud, group, vm)
        assert cloud.pings(address)
        assert not await open_to(cloud, address)
        await say("still here")
        everybody = 0
        await cloud.one.call("one.vm.attachsg", vm, 0, everybody)
        await eventually(lambda: open_to(cloud, address), what="group 0 lets everything in")
        await cloud.one.call("one.vm.detachsg", vm, 0, everybody)
        await eventually(lambda: closed_to(cloud, address), within=20, what="without group 0 nothing new comes in")
        await say("and still")
    assert run_of(cloud, vm) == before
    assert "VM security group updated" in cloud.one.vm_log(vm).read_text()


async def test_an_update_of_a_nic_ends_well(cloud: Cloud) -> None:
    vm = await cloud.running_vm(await cloud.image("echo", ECHO))
    before = run_of(cloud, vm)
    document = await changed(cloud, vm, "one.vm.updatenic", 0, 'NIC=[INBOUND_AVG_BW="1000"]', 1)
    assert document.findtext("TEMPLATE/NIC/INBOUND_AVG_BW") == "1000"
    assert document.find("TEMPLATE/VNET_UPDATE") is None
    assert document.find("USER_TEMPLATE/ERROR") is None
    assert run_of(cloud, vm) == before
    qdiscs = json.loads(cloud.engine.run_in_netns(["tc", "-j", "qdisc", "show", "dev", f"one-{vm}-0"]).stdout)
    assert [(qdisc["kind"], qdisc["options"]["rate"]) for qdisc in qdiscs] == [("tbf", 1000 * 1024)]


async def in_network(cloud: Cloud) -> tuple[int, int, str]:
    """A network, a VM that is in no other, and the address at which that listens."""
    network = await second_network(cloud)
    nic = f'NIC=[NETWORK_ID="{network}"]\nCONTEXT=[NETWORK="YES"]'
    vm = await cloud.running_vm(await cloud.image("echo", ECHO), nic=False, more=nic)
    return network, vm, await listening(cloud, vm)


async def test_an_update_of_a_network_reaches_its_vms(cloud: Cloud) -> None:
    network, vm, first = await in_network(cloud)
    before = run_of(cloud, vm)
    async with conversation(cloud, first) as say:
        await say("wide")
        await cloud.one.call("one.vn.update", network, 'MTU="1400"', 1)

        async def updated() -> bool:
            document = await cloud.one.document("one.vn.info", network)
            return [item.text for item in document.findall("UPDATED_VMS/ID")] == [str(vm)]

        await eventually(updated, what="the VM has what its network says")
        shown = cloud.engine.run_in_netns(["nsenter", f"--net=/run/netns/one-{vm}", "ip", "-j", "link", "show", "eth0"])
        assert json.loads(shown.stdout)[0]["mtu"] == 1400
        await say("narrow")
    assert run_of(cloud, vm) == before


async def test_a_new_context_is_followed_under_an_open_connection(cloud: Cloud) -> None:
    network, vm, first = await in_network(cloud)
    before = run_of(cloud, vm)
    async with conversation(cloud, first) as say:
        await say("as it was")
        await cloud.one.call("one.vn.update", network, f'ROUTES="10.90.0.0/16 via {SECOND_GATEWAY}"', 1)
        document = await changed(cloud, vm, "one.vm.updateconf", 'CONTEXT=[NETWORK="YES"]')
        assert document.find("USER_TEMPLATE/ERROR") is None
        route = ["nsenter", f"--net=/run/netns/one-{vm}", "ip", "-j", "route", "show", "10.90.0.0/16"]
        shown = json.loads(cloud.engine.run_in_netns(route).stdout)
        assert [(one["gateway"], one["dev"]) for one in shown] == [(SECOND_GATEWAY, "eth0")]
        await say("with a route")
    assert run_of(cloud, vm) == before
    assert "the network follows the new context" in cloud.one.vm_log(vm).read_text()
