"""The switch that a NIC is plugged into, its port, and options of bridges."""

import pytest
from tests.support.networks import changed, only

from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.nic_parts import OvsPort, Switch, TrunkPort

OVS = {"VN_MAD": "ovswitch", "BRIDGE": "ovsbr0", "BRIDGE_TYPE": "openvswitch"}
TRUNK = {"PHYDEV": "eth1", "VLAN_TAGGED_ID": "1-3,10"}
QINQ = {"VN_MAD": "802.1Q", "PHYDEV": "eth1", "VLAN_ID": "100", "CVLANS": "300,200"}


@pytest.mark.parametrize(
    ("values", "switch"),
    [
        ({}, Switch.LINUX),
        ({"BRIDGE_TYPE": ""}, Switch.LINUX),
        ({"VN_MAD": "dummy", "BRIDGE_TYPE": "openvswitch"}, Switch.OPENVSWITCH),
        ({"VN_MAD": "ovswitch", "BRIDGE_TYPE": ""}, Switch.OPENVSWITCH),
        (OVS, Switch.OPENVSWITCH),
    ],
)
def test_the_switch(values: dict[str, str], switch: Switch) -> None:
    nic = only(changed(**values))
    assert nic.switch is switch
    assert (nic.ovs is not None) is (switch is Switch.OPENVSWITCH)


@pytest.mark.parametrize(
    ("text", "ids"),
    [("5", (5,)), ("1-3,10", (1, 2, 3, 10)), ("3 - 1 , 2", (1, 2, 3)), ("1-4094", tuple(range(1, 4095))), ("", ())],
)
def test_lists_of_vlans(text: str, ids: tuple[int, ...]) -> None:
    assert only(changed(PHYDEV="eth1", VLAN_TAGGED_ID=text)).trunk == (TrunkPort(ids) if ids else None)


@pytest.mark.parametrize(
    "text", ["0", "4095", "1-5000", "a", "1,,2", "1-2-3", "1;2", ",1", "1\n", "-1", "٣", "1-" * 9999]
)
@pytest.mark.parametrize(("values", "name"), [(TRUNK, "VLAN_TAGGED_ID"), (QINQ, "CVLANS"), (OVS, "VLAN_TAGGED_ID")])
def test_lists_that_are_none(values: dict[str, str], name: str, text: str) -> None:
    if text == "1\n":  # stripped
        return
    with pytest.raises(TerminalError) as caught:
        only(changed(**(values | {name: text})))
    assert f"{name} must be VLAN ids" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_which_drivers_filter_vlans_on_a_linux_bridge() -> None:
    assert only(changed(**TRUNK)).trunk == TrunkPort((1, 2, 3, 10))
    assert only(changed(VN_MAD="fw", **TRUNK)).trunk == TrunkPort((1, 2, 3, 10))
    assert only(changed(VN_MAD="dummy", **TRUNK)).trunk is None
    assert only(changed(VLAN_TAGGED_ID="1-3")).trunk is None
    assert only(changed(VN_MAD="802.1Q", VLAN_ID="100", **TRUNK)).trunk is None
    assert only(changed(**QINQ)).trunk == TrunkPort((200, 300), untagged=100)


def test_ports_of_open_vswitch() -> None:
    assert only(changed(**OVS)).ovs == OvsPort()
    assert only(changed(**OVS, VLAN_ID="5")).ovs == OvsPort(tag=5)
    assert only(changed(**OVS, VLAN_ID="5", VLAN_TAGGED_ID="7,6")).ovs == OvsPort(tag=5, trunks=(6, 7))
    assert only(changed(**OVS, VLAN_TAGGED_ID="6")).ovs == OvsPort(trunks=(6,))
    assert only(changed(**OVS, VLAN_ID="5", CVLANS="8")).ovs == OvsPort(tag=5, cvlans=(8,))
    tunnel = only(changed(**OVS, VLAN_ID="5", CVLANS="8", QINQ_TYPE="802.1AD")).ovs
    assert tunnel == OvsPort(tag=5, cvlans=(8,), qinq_type="802.1ad")


def test_options_of_a_linux_bridge() -> None:
    assert only(changed(BRIDGE_CONF="sethello=6, stp=on,setfd=0")).bridge_options == (
        ("forward_delay", "0"), ("hello_time", "600"), ("stp_state", "1"),
    )  # fmt: skip
    assert only(changed(BRIDGE_CONF="ageing_time=30000,mcast_snooping=0,priority=4096")).bridge_options == (
        ("ageing_time", "30000"), ("mcast_snooping", "0"), ("priority", "4096"),
    )  # fmt: skip
    assert only(changed(**OVS, BRIDGE_CONF="sethello=6")).bridge_options == ()


def test_options_of_an_open_vswitch() -> None:
    port = only(changed(**OVS, OVS_BRIDGE_CONF="stp_enable=true, other_config:mac-table-size=2048,x=__delete__")).ovs
    assert port == OvsPort(bridge_options=(("other_config:mac-table-size", "2048"), ("stp_enable", "true")))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (OVS | {"BRIDGE_TYPE": "linux"}, "BRIDGE_TYPE=linux does not fit VN_MAD=ovswitch; leave BRIDGE_TYPE out"),
        (OVS | {"BRIDGE_TYPE": "openvswitch_dpdk"}, "BRIDGE_TYPE='openvswitch_dpdk' is not supported; use linux"),
        (OVS | {"CVLANS": "8"}, "CVLANS needs VLAN_ID, the outer VLAN"),
        (OVS | {"CVLANS": "8", "VLAN_ID": "5", "QINQ_TYPE": "x"}, "QINQ_TYPE must be 802.1q or 802.1ad, not 'x'"),
        (OVS | {"VLAN_ID": "4095"}, "VLAN_ID must be a number from 1 to 4094"),
        (OVS | {"OVS_BRIDGE_CONF": "-- del-br x=1"}, "OVS_BRIDGE_CONF must be like stp_enable=true"),
        (OVS | {"OVS_BRIDGE_CONF": "stp_enable=true -- del-br y"}, "OVS_BRIDGE_CONF must be like stp_enable=true"),
        (OVS | {"OVS_BRIDGE_CONF": "stp_enable=--x"}, "OVS_BRIDGE_CONF must be like stp_enable=true"),
        (OVS | {"OVS_BRIDGE_CONF": "stp_enable=[set]"}, "OVS_BRIDGE_CONF must be like stp_enable=true"),
        (OVS | {"OVS_BRIDGE_CONF": ",".join(f"a{n}=1" for n in range(65))}, "OVS_BRIDGE_CONF has 65 options; at most"),
        (OVS | {"BRIDGE": "ovs br"}, "BRIDGE is not a device name"),
        ({"BRIDGE_CONF": "vlan_filtering=0"}, "BRIDGE_CONF: 'vlan_filtering' is not an option that can be set"),
        ({"BRIDGE_CONF": "stp=2"}, "BRIDGE_CONF: stp must be a number from 0 to 1"),
        ({"BRIDGE_CONF": "sethello=11"}, "BRIDGE_CONF: sethello must be a number from 1 to 10"),
        ({"BRIDGE_CONF": "max_age=599"}, "BRIDGE_CONF: max_age must be a number from 600 to 4000"),
        ({"BRIDGE_CONF": "sethello=1.5"}, "BRIDGE_CONF: sethello must be a number"),
        ({"BRIDGE_CONF": "x" * 1_000_000 + "=1"}, "is not an option that can be set"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(values: dict[str, str], reason: str) -> None:
    with pytest.raises(TerminalError) as caught:
        only(changed(**values))
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 250
