"""The embedded OpenNebula brings changes of groups and networks to VMs, one by one, as the real one's sources say."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest
from tests.integration.test_embedded_opennebula import Cloud
from tests.support.opennebula import CallFailedError, EmbeddedOpenNebula
from tests.support.scripted import ScriptedDriver, ScriptedRemotes, decoded
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState

GROUP = 'NAME="web"\nRULE=[PROTOCOL="TCP",RULE_TYPE="inbound",RANGE="80"]'

SMALL = 'CPU=0.1\nMEMORY=64\nDISK=[IMAGE="ubuntu"]\nNIC=[NETWORK="private"]\nCONTEXT=[NETWORK="YES"]\n'


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    vmm, im = ScriptedDriver.make(tmp_path / "vmm"), ScriptedDriver.make(tmp_path / "im")
    remotes = ScriptedRemotes.make(tmp_path / "remotes")
    one = EmbeddedOpenNebula(tmp_path / "one", vmm=vmm.command, im=im.command, remotes=remotes.directory)
    async with one:
        made = Cloud(one, vmm, im, remotes)
        await made.prepare()
        yield made


async def running(cloud: Cloud, count: int = 1) -> list[int]:
    vms = [await cloud.one.call("one.vm.allocate", SMALL, False) for _ in range(count)]
    for vm in vms:
        await cloud.one.wait_for_vm(vm, LcmState.RUNNING)
    return vms


def asked(cloud: Cloud, action: str) -> list[Element]:
    """The documents of all requests of that kind so far."""
    messages = [decoded(line) for line in cloud.vmm.lines()]
    return [fromstring(xml) for head, xml in messages if head.split()[0] == action]


async def progress(cloud: Cloud, method: str, number: int) -> dict[str, list[int]]:
    document = await cloud.one.document(method, number)
    lists = {child.tag: [int(item.text or "") for item in child] for child in document if child.tag.endswith("_VMS")}
    return {name.removesuffix("_VMS").lower(): numbers for name, numbers in lists.items() if numbers}


async def settles(cloud: Cloud, method: str, number: int, wanted: dict[str, list[int]]) -> None:
    async def there() -> bool:
        now = await progress(cloud, method, number)
        assert now == wanted, now
        return True

    await eventually(there, what=f"{method} {number} is {json.dumps(wanted)}")


async def test_rules_go_to_one_vm_after_the_other(cloud: Cloud) -> None:
    group = await cloud.one.call("one.secgroup.allocate", GROUP)
    vms = await running(cloud, 3)
    cloud.vmm.answer("UPDATESG", f"UPDATESG SUCCESS {{id}} {group} -")
    for vm in vms:
        await cloud.one.call("one.vm.attachsg", vm, 0, group)
    await settles(cloud, "one.secgroup.info", group, {"updated": vms})
    cloud.vmm.answer("UPDATESG")
    before = len(asked(cloud, "UPDATESG"))
    await cloud.one.call("one.secgroup.update", group, 'RULE=[PROTOCOL="ICMP",RULE_TYPE="inbound"]', 0)
    await settles(cloud, "one.secgroup.info", group, {"outdated": vms[1:], "updating": vms[:1]})
    (request,) = await eventually(lambda: asked(cloud, "UPDATESG")[before:], what="the driver has read it")
    assert request.findtext("SECURITY_GROUP_ID") == str(group)
    rules = {
        rule.findtext("PROTOCOL")
        for rule in request.findall("VM/TEMPLATE/SECURITY_GROUP_RULE")
        if rule.findtext("SECURITY_GROUP_ID") == str(group)
    }
    assert rules == {"ICMP"}
    cloud.vmm.say(f"UPDATESG SUCCESS {vms[0]} without the id")
    cloud.vmm.say(f"UPDATESG FAILURE {vms[0]} {group} no such table")
    await settles(cloud, "one.secgroup.info", group, {"outdated": vms[2:], "updating": [vms[1]], "error": [vms[0]]})
    assert "no such table" in ((await cloud.one.vm(vms[0])).findtext("USER_TEMPLATE/ERROR") or "")
    cloud.vmm.answer("UPDATESG", f"UPDATESG SUCCESS {{id}} {group} -")
    cloud.vmm.say(f"UPDATESG SUCCESS {vms[1]} {group} -")
    await settles(cloud, "one.secgroup.info", group, {"updated": vms[1:], "error": [vms[0]]})
    await cloud.one.call("one.secgroup.commit", group, True)
    await settles(cloud, "one.secgroup.info", group, {"updated": vms})


async def test_a_vm_that_does_not_run_gets_rules_without_its_driver(cloud: Cloud) -> None:
    group = await cloud.one.call("one.secgroup.allocate", GROUP)
    (vm,) = await running(cloud)
    await cloud.one.call("one.vm.action", "poweroff", vm)
    await cloud.one.wait_for_vm(vm, VmState.POWEROFF)
    await cloud.one.call("one.vm.attachsg", vm, 0, group)
    await cloud.one.call("one.secgroup.update", group, 'RULE=[PROTOCOL="ICMP",RULE_TYPE="inbound"]', 0)
    await settles(cloud, "one.secgroup.info", group, {"updated": [vm]})
    assert asked(cloud, "UPDATESG") == []
    with pytest.raises(CallFailedError, match="VMs using it"):
        await cloud.one.call("one.secgroup.delete", group)
    await cloud.one.call("one.vm.detachsg", vm, 0, group)
    await cloud.one.call("one.secgroup.delete", group)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ('PROTOCOL="SCTP",RULE_TYPE="inbound"', "Wrong PROTOCOL"),
        ('PROTOCOL="ICMP",RULE_TYPE="inbound",RANGE="80"', "only for TCP and UDP"),
        ('PROTOCOL="TCP",RULE_TYPE="inbound",RANGE="80-90"', "Invalid RANGE"),
        ('PROTOCOL="TCP",RULE_TYPE="inbound",RANGE="80:70000"', "out of bounds"),
        ('PROTOCOL="TCP",RULE_TYPE="inbound",RANGE="90:80"', "BEGIN"),
        ('PROTOCOL="TCP",RULE_TYPE="sideways"', "Wrong RULE_TYPE"),
        ('PROTOCOL="TCP",RULE_TYPE="inbound",IP="10.0.0.1"', "SIZE"),
        ('PROTOCOL="TCP",RULE_TYPE="inbound",ICMP_TYPE="8"', "only for ICMP"),
    ],
)
async def test_rules_that_make_no_sense_are_refused(cloud: Cloud, rule: str, says: str) -> None:
    with pytest.raises(CallFailedError, match=says):
        await cloud.one.call("one.secgroup.allocate", f'NAME="x"\nRULE=[{rule}]')


async def test_an_update_of_a_network_reaches_nics_that_have_no_value_of_their_own(cloud: Cloud) -> None:
    cloud.vmm.answer("UPDATENIC")
    vms = await running(cloud, 2)
    await cloud.one.call("one.vm.action", "poweroff", vms[1])
    await cloud.one.wait_for_vm(vms[1], VmState.POWEROFF)
    await cloud.one.call("one.vm.updatenic", vms[1], 0, 'NIC=[INBOUND_AVG_BW="5"]', 1)
    await cloud.one.call("one.vn.update", 0, "INBOUND_AVG_BW=1000\nMTU=1400\n", 1)
    await cloud.one.wait_for_vm(vms[0], LcmState.HOTPLUG_NIC)
    (request,) = await eventually(lambda: asked(cloud, "UPDATENIC"), what="the driver has read it")
    assert request.findtext("VIRTUAL_NETWORK_ID") == "0"
    assert request.findtext("VM/TEMPLATE/NIC/MTU") == "1400"
    assert request.find("VM/TEMPLATE/VNET_UPDATE/MTU") is not None
    cloud.vmm.say(f"UPDATENIC FAILURE {vms[0]} 0 no such device")
    await cloud.one.wait_for_vm(vms[0], LcmState.RUNNING)
    await settles(cloud, "one.vn.info", 0, {"updated": [vms[1]], "error": [vms[0]]})
    nic = (await cloud.one.vm(vms[1])).find("TEMPLATE/NIC")
    assert nic is not None
    assert (nic.findtext("INBOUND_AVG_BW"), nic.findtext("MTU")) == ("5", "1400")
    assert (await cloud.one.document("one.vn.info", 0)).findtext("STATE") == "6"


async def test_aliases_go_with_their_nic(cloud: Cloud) -> None:
    (vm,) = await running(cloud)
    alias = 'NIC_ALIAS=[NETWORK="private",PARENT="NIC0"]'
    for _ in range(2):
        await cloud.one.call("one.vm.attachnic", vm, alias)
        await cloud.one.wait_for_vm(vm, LcmState.RUNNING)
    document = await cloud.one.vm(vm)
    assert document.findtext("TEMPLATE/NIC/ALIAS_IDS") == "1,2"
    assert [item.text for item in document.findall("TEMPLATE/NIC_ALIAS/ALIAS_ID")] == ["0", "1"]
    assert [item.text for item in document.findall("TEMPLATE/NIC_ALIAS/NAME")] == ["NIC0_ALIAS1", "NIC0_ALIAS2"]
    assert [item.text for item in document.findall("HISTORY_RECORDS/HISTORY/ACTION")] == ["46", "46", "0"]
    await cloud.one.call("one.vm.detachnic", vm, 1)
    await cloud.one.wait_for_vm(vm, LcmState.RUNNING)
    context = asked(cloud, "DETACHNIC")[0].find("VM/TEMPLATE/CONTEXT")
    assert context is not None
    assert (context.find("ETH0_ALIAS0_IP"), context.find("ETH0_ALIAS1_IP") is not None) == (None, True)
    assert (await cloud.one.vm(vm)).findtext("TEMPLATE/NIC/ALIAS_IDS") == "2"
    await cloud.one.call("one.vm.detachnic", vm, 0)
    await cloud.one.wait_for_vm(vm, LcmState.RUNNING)
    document = await cloud.one.vm(vm)
    assert document.find("TEMPLATE/NIC") is None
    assert document.find("TEMPLATE/NIC_ALIAS") is None
    assert (await cloud.one.document("one.vn.info", 0)).findtext("USED_LEASES") == "0"


async def test_an_update_that_changes_nothing_asks_nobody(cloud: Cloud) -> None:
    (vm,) = await running(cloud)
    await cloud.one.call("one.vm.updatenic", vm, 0, 'NIC=[MAC="02:00:00:00:00:01"]', 1)
    await cloud.one.call("one.vn.update", 0, 'DESCRIPTION="x"', 1)
    assert asked(cloud, "UPDATENIC") == []
    assert (await cloud.one.state(vm))[1] is LcmState.RUNNING
