"""The first broken hop of a NIC's way: each fault alone, and which of several comes first."""

from dataclasses import replace
from typing import Any

import pytest

from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Method, Switch, Vlan, Vxlan
from onedock.reconcilers.path import Counters, Hop, Neighbour, NicPath, PathLink, Queue, RuleHits
from onedock.reconcilers.path_fault import find_broken

NIC = Nic(
    index=0, name="eth0", host_name="one-42-0", mac="02:00:0a:4d:00:0a", bridge="br0",
    addresses=("10.77.0.10/24", "2001:DB8::a/64"), gateways=("10.77.0.1",), phydev="ens3",
)  # fmt: skip


def link(name: str, **changes: Any) -> PathLink:
    made = PathLink(name, up=True, carrier=True, mtu=1500, kind="veth", counters=Counters(rx_packets=7))
    return replace(made, **changes)


GOOD = NicPath(
    NIC,
    inside=link("eth0", mac=NIC.mac),
    addresses=("10.77.0.10/24", "2001:db8::a/64"),
    gateways=("10.77.0.1",),
    neighbours=(Neighbour("10.77.0.1", "reachable", "02:00:00:00:00:01"),),
    host=link("one-42-0", master="br0"),
    bridge=link("br0", kind="bridge"),
    other_ports=2,
    device=link("ens3", kind="", master="br0"),
)
BY_ROUTER = replace(NIC, method6=Method.AUTO)
VLAN = replace(
    GOOD,
    nic=replace(NIC, phydev=None, uplink=Vlan("ens3.10", "ens3", 10)),
    uplink=link("ens3.10", kind="vlan", master="br0"),
    device=link("ens3", kind=""),
)
SWITCH = replace(
    GOOD,
    nic=replace(NIC, switch=Switch.OPENVSWITCH),
    host=link("one-42-0", master="ovs-system"),
    device=link("ens3", kind="", master="ovs-system"),
)
VXLAN = replace(
    VLAN,
    nic=replace(NIC, phydev=None, uplink=Vxlan("ens3.10", "ens3", 10, group="239.0.0.10")),
    device=link("ens3", kind="", mtu=1550),
)
assert GOOD.inside is not None
assert GOOD.host is not None
assert VLAN.uplink is not None
assert GOOD.device is not None
assert GOOD.bridge is not None


@pytest.mark.parametrize(
    "path",
    [
        GOOD,
        VLAN,
        VXLAN,
        replace(GOOD, nic=replace(NIC, phydev=None), device=None),
        replace(GOOD, neighbours=(Neighbour("10.77.0.1", "stale"),)),
        replace(GOOD, nic=BY_ROUTER, gateways=("10.77.0.1", "fe80::1")),
        replace(GOOD, nic=BY_ROUTER, addresses=(*GOOD.addresses, "2001:db8:1::7/64")),
        SWITCH,
        replace(GOOD, device=link("ens3", kind="", master="br0", counters=Counters(rx_dropped=9))),
        replace(GOOD, nic=replace(NIC, rules=()), rules=(RuleHits("in.dropped", 7, 700),)),
    ],
)  # fmt: skip
def test_a_whole_way_has_no_fault(path: NicPath) -> None:
    assert find_broken(path) is None


FAULTS: list[tuple[NicPath, Hop, str]] = [
    (replace(GOOD, inside=None, addresses=(), gateways=()), Hop.CONTAINER, "the container has no eth0"),
    (replace(GOOD, inside=replace(GOOD.inside, up=False)), Hop.CONTAINER, "eth0 is down"),
    (replace(GOOD, inside=replace(GOOD.inside, mac="02:00:00:00:00:99")), Hop.CONTAINER, "has the MAC"),
    (replace(GOOD, addresses=("2001:db8::a/64",)), Hop.CONTAINER, "lacks the address 10.77.0.10/24"),
    (replace(GOOD, gateways=()), Hop.CONTAINER, "default route by 10.77.0.1 is missing"),
    (replace(GOOD, nic=replace(NIC, rules=()), rules=()), Hop.RULES, "not loaded"),
    (replace(GOOD, host=None), Hop.HOST, "one-42-0 is missing"),
    (replace(GOOD, joined=False), Hop.HOST, "not the other end"),
    (replace(GOOD, host=replace(GOOD.host, up=False)), Hop.HOST, "one-42-0 is down"),
    (replace(GOOD, host=replace(GOOD.host, carrier=False)), Hop.HOST, "no carrier"),
    (replace(GOOD, host=replace(GOOD.host, master="")), Hop.HOST, "unplugged from br0"),
    (replace(GOOD, host=replace(GOOD.host, master="br9")), Hop.HOST, "plugged into br9"),
    (replace(GOOD, host=replace(GOOD.host, forwarding=False)), Hop.HOST, "spanning tree"),
    (replace(GOOD, bridge=None), Hop.BRIDGE, "br0 is missing"),
    (replace(GOOD, bridge=None, host=link("one-42-0")), Hop.BRIDGE, "br0 is missing"),
    (replace(GOOD, bridge=replace(GOOD.bridge, up=False)), Hop.BRIDGE, "br0 is down"),
    (replace(VLAN, uplink=None), Hop.UPLINK, "vlan link ens3.10 is missing"),
    (replace(VLAN, uplink=replace(VLAN.uplink, up=False)), Hop.UPLINK, "ens3.10 is down"),
    (replace(VLAN, uplink=replace(VLAN.uplink, master="")), Hop.UPLINK, "ens3.10 is unplugged"),
    (replace(GOOD, device=None), Hop.DEVICE, "ens3 is missing"),
    (replace(GOOD, device=replace(GOOD.device, master="")), Hop.DEVICE, "ens3 is unplugged"),
    (replace(SWITCH, device=link("ens3", kind="")), Hop.DEVICE, "ens3 is unplugged, not into br0"),
    (replace(SWITCH, host=link("one-42-0")), Hop.HOST, "one-42-0 is unplugged from br0"),
    (replace(VLAN, device=link("ens3", up=False)), Hop.DEVICE, "ens3 is down"),
    (replace(VLAN, device=link("ens3", carrier=False)), Hop.DEVICE, "ens3 has no carrier"),
    (replace(GOOD, bridge=replace(GOOD.bridge, mtu=1400)), Hop.BRIDGE, "br0 takes 1400 bytes, eth0 sends 1500"),
    (replace(VXLAN, device=link("ens3")), Hop.DEVICE, "ens3 takes 1500 bytes, eth0 sends 1500 and 50"),
    (replace(GOOD, waiting="waiting for a DHCP lease on eth0: …"), Hop.GATEWAY, "waiting for a DHCP lease"),
    (replace(GOOD, nic=BY_ROUTER), Hop.GATEWAY, "no router has advertised itself to eth0"),
    (replace(GOOD, neighbours=(Neighbour("10.77.0.1", "failed"),)), Hop.GATEWAY, "does not answer ARP"),
    (replace(GOOD, neighbours=(Neighbour("fd00::1", "incomplete"),)), Hop.GATEWAY, "not answer neighbour discovery"),
    (replace(GOOD, rules=(RuleHits("in.dropped", 70, 7000, lately=3),)), Hop.RULES, "drop packets into the VM"),
    (replace(GOOD, forged=(RuleHits("mac", 9, 90, lately=1),)), Hop.SPOOFING, "mac: 9 so far"),
    (
        replace(GOOD, host=replace(GOOD.host, lost_lately=4, queue=Queue("tbf", dropped=9))),
        Hop.HOST,
        "limit is reached",
    ),
    (replace(GOOD, device=replace(GOOD.device, lost_lately=4)), Hop.DEVICE, "ens3 loses packets just now, 4"),
]


@pytest.mark.parametrize(("path", "hop", "words"), FAULTS, ids=[words for _, _, words in FAULTS])
def test_a_fault_is_found_with_its_remedy(path: NicPath, hop: Hop, words: str) -> None:
    fault = find_broken(path)
    assert fault is not None
    assert fault.hop is hop
    assert words in fault.reason
    assert fault.remedy


def test_what_is_certain_comes_before_its_consequences() -> None:
    silent = (Neighbour("10.77.0.1", "failed"),)
    cut = replace(VLAN, neighbours=silent, waiting="waiting …", device=link("ens3", carrier=False))
    fault = find_broken(cut)
    assert fault is not None
    assert fault.hop is Hop.DEVICE


def test_a_silent_gateway_on_a_bridge_that_leads_nowhere_is_explained() -> None:
    lonely = replace(GOOD, nic=replace(NIC, phydev=None), device=None, other_ports=0)
    fault = find_broken(replace(lonely, neighbours=(Neighbour("10.77.0.1", "failed"),)))
    assert fault is not None
    assert "leads nowhere" in fault.remedy
