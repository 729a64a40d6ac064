"""VLANs of trunks come with who wants them and go with the last one."""

from dataclasses import replace

from onedock.nodeside.agent.healing import needs
from onedock.nodeside.agent.plan import plan_released_vlans
from onedock.nodeside.agent.plan.trunk import plan_trunk_port
from onedock.nodeside.agent.seen import BRIDGE_GROUP, HostLink, Seen
from onedock.nodeside.agent.steps import AddPortVlans, FilterVlans, RemovePortVlans
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import TrunkPort, Vlan

NIC = Nic(0, "eth0", "one-228200-0", "02:00:0a:00:00:01", "br0")
BRIDGE = HostLink("br0", 9, "bridge", BRIDGE_GROUP, filters_vlans=True)
PORT = HostLink("one-228200-0", 10, "veth", vlans=frozenset({(1, True), (2, False), (3, False)}))
WAY = HostLink("p0", 3, vlans=frozenset({(1, True), (2, False), (3, False), (4, False)}))


def test_a_nic_whose_trunk_is_taken_away_has_the_bridges_default() -> None:
    seen = Seen(host={"br0": BRIDGE})
    assert list(plan_trunk_port(NIC, PORT, seen)) == [RemovePortVlans(PORT.name, ((2, False), (3, False)))]
    seen = Seen(host={"br0": replace(BRIDGE, default_vlan=3)})
    assert list(plan_trunk_port(NIC, PORT, seen)) == [
        RemovePortVlans(PORT.name, ((1, True), (2, False))),
        AddPortVlans(PORT.name, ((3, True),)),
    ]
    assert list(plan_trunk_port(NIC, replace(PORT, vlans=None), seen)) == [], "it never had a trunk"


def test_what_no_vm_wants_leaves_the_bridge_no_more() -> None:
    trunks = {TrunkPort((2,)), TrunkPort((3,))}
    assert list(plan_released_vlans(BRIDGE, [WAY], trunks)) == [RemovePortVlans("p0", ((4, False),))]
    tagged = replace(WAY, vlans=frozenset({(1, False), (2, False), (9, True)}))
    assert list(plan_released_vlans(BRIDGE, [tagged], {TrunkPort((2,))})) == [
        RemovePortVlans("p0", ((9, True),)),
        AddPortVlans("p0", ((1, True),)),
    ]
    assert list(plan_released_vlans(BRIDGE, [tagged], {TrunkPort((2,), untagged=9)})) == []


def test_without_trunks_a_bridge_of_ours_stops_to_filter() -> None:
    assert list(plan_released_vlans(BRIDGE, [WAY], ())) == [
        FilterVlans("br0", on=False),
        RemovePortVlans("p0", ((2, False), (3, False), (4, False))),
    ]
    assert list(plan_released_vlans(replace(BRIDGE, group=0), [WAY], ())) == []


def test_a_bridge_that_is_told_to_filter_goes_on() -> None:
    told = replace(NIC, bridge_options=(("vlan_filtering", "1"),), uplink=Vlan("p0.7", "p0", 7))
    other = replace(NIC, index=1, trunk=TrunkPort((2,)))
    assert needs.trunks(Network(VmId(228_200), (told, other))) == {("br0", TrunkPort()), ("br0", TrunkPort((2,)))}
