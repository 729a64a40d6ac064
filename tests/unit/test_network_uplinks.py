"""What connects a bridge with the wire: VLAN and VXLAN links, their names, options and limits."""

import pytest
from tests.support.networks import changed, only

from onedock.config.settings import NetworkSettings
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.nic_parts import Vlan, Vxlan

TAGGED = {"VN_MAD": "802.1Q", "PHYDEV": "eth1", "VLAN_ID": "50", "BRIDGE": "onebr.50"}
TUNNEL = {"VN_MAD": "vxlan", "PHYDEV": "eth1", "VLAN_ID": "4", "BRIDGE": "onebr.4"}
OVER_OVS = TUNNEL | {"VN_MAD": "ovswitch_vxlan", "BRIDGE_TYPE": "openvswitch", "VLAN_ID": "7", "OUTER_VLAN_ID": "900"}


def vlan(settings: NetworkSettings | None = None, **values: str) -> Vlan:
    found = only(changed(**(TAGGED | values)), settings=settings).uplink
    assert isinstance(found, Vlan)
    return found


def vxlan(settings: NetworkSettings | None = None, **values: str) -> Vxlan:
    found = only(changed(**(TUNNEL | values)), settings=settings).uplink
    assert isinstance(found, Vxlan)
    return found


@pytest.mark.parametrize("driver", ["bridge", "fw", "dummy", "ovswitch"])
def test_drivers_without_an_uplink(driver: str) -> None:
    kind = "openvswitch" if driver == "ovswitch" else "linux"
    nic = only(changed(VN_MAD=driver, PHYDEV="eth1", VLAN_ID="50", BRIDGE_TYPE=kind))
    assert nic.uplink is None
    assert nic.phydev == (None if driver == "dummy" else "eth1")


def test_a_vlan() -> None:
    assert vlan() == Vlan("eth1.50", "eth1", 50)
    assert only(changed(**TAGGED)).phydev is None


def test_a_vxlan_has_the_groups_of_the_stock_driver() -> None:
    assert vxlan() == Vxlan("eth1.4", "eth1", 4, group="239.0.0.4", ttl=16, port=8472, mtu=1450)
    assert vxlan(VLAN_ID="16777215").group == "239.255.255.255"
    assert vxlan(VXLAN_MC="239.1.0.255").group == "239.1.1.3"


def test_the_outer_network_of_open_vswitch() -> None:
    nic = only(changed(**OVER_OVS))
    assert nic.uplink == Vxlan("eth1.900", "eth1", 900, group="239.0.3.132", ttl=16, mtu=1450)
    assert nic.ovs is not None
    assert nic.ovs.tag == 7
    assert nic.phydev is None


@pytest.mark.parametrize(
    ("values", "settings", "link", "nic"),
    [
        ({}, {}, None, None),
        ({"MTU": "9000"}, {"vlan_mtu": 1400}, 9000, 9000),
        ({}, {"vlan_mtu": 1400}, 1400, 1400),
        ({"CONF": "vlan_mtu=1300"}, {"vlan_mtu": 1400}, 1300, 1300),
        ({"MTU": "9000", "GUEST_MTU": "1500"}, {}, 9000, 1500),
        ({"GUEST_MTU": "1500"}, {}, None, 1500),
    ],
)
def test_mtu_of_a_vlan(values: dict[str, str], settings: dict[str, int], link: int | None, nic: int | None) -> None:
    found = only(changed(**(TAGGED | values)), settings=NetworkSettings.model_validate(settings))
    assert isinstance(found.uplink, Vlan)
    assert (found.uplink.mtu, found.mtu) == (link, nic)


def test_nics_on_a_vxlan_are_as_small_as_it_is() -> None:
    assert only(changed(**TUNNEL)).mtu == 1450
    assert only(changed(**(TUNNEL | {"GUEST_MTU": "1400"}))).mtu == 1400
    nic = only(changed(**TUNNEL), settings=NetworkSettings(vxlan_mtu=0))
    assert (nic.mtu, nic.uplink and nic.uplink.mtu) == (None, None)


def test_evpn() -> None:
    link = vxlan(VXLAN_MODE="evpn", VXLAN_REMOTES="10.0.0.1")
    assert (link.group, link.learning, link.remotes, link.tep) == (None, False, (), "dev")
    assert vxlan(VXLAN_MODE="EVPN", VXLAN_TEP="local_ip").tep == "local_ip"
    assert vxlan(VXLAN_MODE="evpn", IP_LINK_CONF="learning=").learning is True
    assert vxlan(CONF="vxlan_mode=evpn,vxlan_tep=local_ip") == vxlan(VXLAN_MODE="evpn", VXLAN_TEP="local_ip")
    assert vxlan(NetworkSettings(vxlan_mode="evpn")).group is None
    assert vxlan(NetworkSettings(vxlan_mode="evpn"), VXLAN_MODE="multicast").group == "239.0.0.4"


def test_unicast_to_the_other_nodes() -> None:
    named = ("10.0.0.1", "10.0.0.2")
    for link in (
        vxlan(VXLAN_REMOTES="10.0.0.1, 10.0.0.2 10.0.0.1"),
        vxlan(CONF="keep_empty_bridge=true,vxlan_remotes=10.0.0.1 10.0.0.2"),
        vxlan(NetworkSettings(vxlan_remotes=named)),
    ):
        assert (link.group, link.remotes, link.learning, link.tep) == (None, named, True, "dev")
    assert vxlan(VXLAN_REMOTES="fd00::2", VXLAN_TEP="local_ip").tep == "local_ip"


def test_a_tunnel_over_ipv6_carries_less() -> None:
    assert (vxlan(VXLAN_REMOTES="10.0.0.1").mtu, vxlan(VXLAN_REMOTES="fd00::2").mtu) == (1450, 1430)
    assert vxlan(VXLAN_REMOTES="fd00::2", MTU="1450").mtu == 1450
    assert vxlan(NetworkSettings(vxlan_mtu=8950), VXLAN_REMOTES="fd00::2").mtu == 8930
    assert vxlan(NetworkSettings(vxlan_mtu=0), VXLAN_REMOTES="fd00::2").mtu is None


def test_the_network_says_more_than_the_settings() -> None:
    settings = NetworkSettings(vxlan_multicast="239.5.0.0", vxlan_ttl=2, vxlan_port=4789, vxlan_mtu=1400)
    link = vxlan(settings)
    assert (link.group, link.ttl, link.port, link.mtu) == ("239.5.0.4", 2, 4789, 1400)
    link = vxlan(settings, CONF="vxlan_mc=239.6.0.0, vxlan_ttl = 0,vxlan_port=8473,vxlan_mtu=1300,unknown=1,nonsense")
    assert (link.group, link.ttl, link.port, link.mtu) == ("239.6.0.4", 0, 8473, 1300)
    link = vxlan(settings, CONF="vxlan_mc=239.6.0.0,vxlan_ttl=3", IP_LINK_CONF="ttl=9,dstport=1", VXLAN_MC="239.7.0.0")
    assert (link.group, link.ttl, link.port) == ("239.7.0.4", 9, 1)


@pytest.mark.parametrize(
    ("text", "keeps"), [("", True), ("keep_empty_bridge=no", False), ("keep_empty_bridge=YES", True), ("a=b", True)]
)
def test_an_empty_bridge_is_kept(text: str, keeps: bool) -> None:
    assert only(changed(CONF=text), settings=NetworkSettings(keep_empty_bridge=True)).keep_bridge is keeps
    assert only(changed(CONF="keep_empty_bridge=true")).keep_bridge
    assert not only(changed()).keep_bridge


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("gvrp=on", (("gvrp", "1"),)),
        ("reorder_hdr=off, GVRP = true ,mvrp=", (("gvrp", "1"), ("mvrp", "1"), ("reorder_hdr", "0"))),
        ("protocol=802.1ad", (("protocol", "34984"),)),
        ("gvrp=__delete__", ()),
        ("nothing", ()),
    ],
)
def test_options_of_a_vlan(text: str, found: tuple[tuple[str, str], ...]) -> None:
    assert vlan(IP_LINK_CONF=text).options == found


def test_options_of_a_vxlan() -> None:
    text = "tos=10,udpcsum=,udp6zerocsumrx=__delete__,noproxy=,ageing=300,maxaddress=1000,df=inherit"
    assert vxlan(IP_LINK_CONF=text).options == (
        ("ageing", "300"), ("df", "2"), ("limit", "1000"), ("proxy", "0"), ("tos", "10"), ("udp_csum", "1"),
    )  # fmt: skip
    assert vxlan(IP_LINK_CONF="tos=inherit,nolearning=").options == (("tos", "1"),)
    assert vxlan(IP_LINK_CONF="nolearning=").learning is False
    assert vxlan(IP_LINK_CONF="learning=off").learning is False


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (TAGGED | {"PHYDEV": ""}, "VN_MAD=802.1Q needs PHYDEV; set it in the virtual network"),
        (TAGGED | {"VLAN_ID": ""}, "VN_MAD=802.1Q needs VLAN_ID; set it in the virtual network"),
        (TAGGED | {"VLAN_ID": "0"}, "VLAN_ID must be a number from 1 to 4094, not '0'"),
        (TAGGED | {"VLAN_ID": "4095"}, "VLAN_ID must be a number from 1 to 4094"),
        (TAGGED | {"VLAN_ID": "-1"}, "VLAN_ID must be a number"),
        (TAGGED | {"VLAN_ID": "5" * 100_000}, "VLAN_ID must be a number"),
        (TAGGED | {"VLAN_ID": "٣"}, "VLAN_ID must be a number"),
        (TAGGED | {"PHYDEV": "eth1 name x"}, "PHYDEV is not a device name"),
        (TAGGED | {"PHYDEV": "-eth1"}, "PHYDEV is not a device name"),
        (
            TAGGED | {"PHYDEV": "enp134s0f1np1"},
            "the link enp134s0f1np1.50 would have a name of more than 15 characters",
        ),
        (TAGGED | {"MTU": "1"}, "MTU must be a number from 68"),
        (TAGGED | {"CONF": "vlan_mtu=x"}, "CONF: vlan_mtu must be a number"),
        (TAGGED | {"CONF": "keep_empty_bridge=maybe"}, "keep_empty_bridge must be true or false, not 'maybe'"),
        (TAGGED | {"IP_LINK_CONF": "protocol=802.1q; reboot"}, "protocol must be one of '802.1q', '802.1ad', not"),
        (TAGGED | {"IP_LINK_CONF": "name=lo"}, "IP_LINK_CONF: 'name' is not an option that can be set; leave it out"),
        (TAGGED | {"IP_LINK_CONF": "gvrp=2"}, "gvrp must be a number from 0 to 1, not '2'"),
        (TUNNEL | {"VLAN_ID": "16777216"}, "VLAN_ID must be a number from 1 to 16777215"),
        (TUNNEL | {"IP_LINK_CONF": "group=10.0.0.1"}, "'group' is not an option"),
        (TUNNEL | {"IP_LINK_CONF": "local=10.0.0.1"}, "'local' is not an option"),
        (TUNNEL | {"IP_LINK_CONF": "tos="}, "IP_LINK_CONF: tos has no value; give it a number up to 255"),
        (TUNNEL | {"IP_LINK_CONF": "nolearning=off"}, "nolearning must be one of '', not 'off'"),
        (TUNNEL | {"VXLAN_MODE": "flood"}, "VXLAN_MODE must be multicast or evpn, not 'flood'"),
        (TUNNEL | {"VXLAN_MODE": "evpn", "VXLAN_TEP": "x"}, "VXLAN_TEP must be dev or local_ip"),
        (TUNNEL | {"VXLAN_MC": "10.0.0.0"}, "VXLAN_MC='10.0.0.0' plus 4 is no IPv4 multicast address"),
        (TUNNEL | {"VXLAN_MC": "239.255.255.255"}, "is no IPv4 multicast address; use one like 239.0.0.0"),
        (TUNNEL | {"VXLAN_MC": "255.255.255.255"}, "is no IPv4 multicast address; use one like 239.0.0.0"),
        (TUNNEL | {"VXLAN_MC": "ff02::1"}, "is no IPv4 multicast address"),
        (TUNNEL | {"VXLAN_REMOTES": "node2"}, "VXLAN_REMOTES is not an IP address: 'node2'"),
        (TUNNEL | {"VXLAN_REMOTES": "10.0.0.1 fd00::1"}, "VXLAN_REMOTES has IPv4 and IPv6 addresses"),
        (TUNNEL | {"VXLAN_REMOTES": "10.0.0.1 " * 2000}, "VXLAN_REMOTES names 2000 nodes; at most 1024"),
        (TUNNEL | {"CONF": "vxlan_ttl=256"}, "vxlan_ttl must be a number from 0 to 255"),
        (TUNNEL | {"CONF": "vxlan_port=0"}, "vxlan_port must be a number from 1 to 65535"),
        (OVER_OVS | {"OUTER_VLAN_ID": ""}, "VN_MAD=ovswitch_vxlan needs OUTER_VLAN_ID"),
        (OVER_OVS | {"PHYDEV": ""}, "VN_MAD=ovswitch_vxlan needs PHYDEV"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(values: dict[str, str], reason: str) -> None:
    with pytest.raises(TerminalError) as caught:
        only(changed(**values))
    assert str(caught.value).startswith("NIC 0 (network 'private'): ") or "VXLAN_REMOTES" in str(caught.value)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 250
