"""Which VMs follow when the way out of a bridge changes."""

from dataclasses import replace
from pathlib import Path

from onedock.nodeside.agent.store import Store
from onedock.nodeside.agent.ways_out import follow
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Vlan

A, B = VmId(228_100), VmId(228_101)
TEN, ELEVEN = Vlan("p0.10", "p0", 10), Vlan("p0.11", "p0", 11)


def network(vm: VmId, **changes: object) -> Network:
    nic = Nic(0, "eth0", f"one-{vm}-0", "02:00:0a:00:00:01", "br0", ("10.0.0.1/24",))
    return Network(vm, (replace(nic, **changes),))  # type: ignore[arg-type]


def test_all_vms_of_a_bridge_have_its_uplink() -> None:
    changed = network(A, uplink=ELEVEN)
    assert follow(network(B, uplink=TEN), changed, network(A, uplink=TEN)) == network(B, uplink=ELEVEN)
    assert follow(network(B, uplink=TEN), changed, Network(A)) == network(B, uplink=ELEVEN)


def test_others_keep_to_themselves() -> None:
    changed, earlier = network(A, uplink=ELEVEN), network(A, uplink=TEN)
    for other in (network(B), network(B, bridge="br1", uplink=TEN), network(B, phydev="p1")):
        assert follow(other, changed, earlier) == other
    for left in (network(A), network(A, phydev="p1")):
        assert follow(network(B, uplink=TEN), left, earlier) == network(B, uplink=TEN)


def test_of_several_physical_devices_the_one_that_was_replaced_goes() -> None:
    changed, earlier = network(A, phydev="p2"), network(A, phydev="p1")
    assert follow(network(B, phydev="p1"), changed, earlier) == network(B, phydev="p2")
    assert follow(network(B, phydev="p3"), changed, earlier) == network(B, phydev="p3")
    assert follow(network(B, phydev="p1"), changed, Network(A)) == network(B, phydev="p1")


def test_what_followed_is_remembered_and_what_is_removed_does_not_follow(tmp_path: Path) -> None:
    store, gone = Store(tmp_path), VmId(228_102)
    for vm in (A, B, gone):
        store.keep_network(network(vm, uplink=TEN))
    store.begin_removal(gone)
    assert store.follow(network(A, uplink=ELEVEN), network(A, uplink=TEN)) == (network(B, uplink=ELEVEN),)
    again = {kept.network.vm: kept for kept in Store(tmp_path)}
    assert again[B].network == network(B, uplink=ELEVEN)
    assert again[gone].network == network(gone, uplink=TEN)
    assert again[gone].removing
