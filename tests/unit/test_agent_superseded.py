"""What a VM had before and may have yet is remembered until the new network was made, and for nobody's harm."""

import json
from dataclasses import replace
from pathlib import Path

from onedock.nodeside.agent.plan import plan
from onedock.nodeside.agent.seen import HostLink, Seen
from onedock.nodeside.agent.steps import PlugIn, Unplug
from onedock.nodeside.agent.store import Kept, Store
from onedock.nodeside.agent.superseded import superseded
from onedock.nodeside.agent.ways_out import follow
from onedock.reconcilers.model import ContainerId, Network, Nic, VmId
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule, TrunkPort, Vlan

A, B = VmId(280_000), VmId(280_001)


def network(vm: VmId, *changes: dict[str, object]) -> Network:
    def nic(index: int, values: dict[str, object]) -> Nic:
        made = Nic(index, f"eth{index}", f"one-{vm}-{index}", "02:00:0a:00:00:01", "br0", ("10.0.0.1/24",))
        return replace(made, **values)  # type: ignore[arg-type]

    return Network(vm, tuple(nic(index, values) for index, values in enumerate(changes)))


def test_what_is_inside_the_vm_supersedes_nothing() -> None:
    rules = (SecurityRule(0, Direction.INBOUND, Protocol.TCP),)
    before = network(A, {"rules": rules, "phydev": "p0"})
    after = network(A, {"addresses": ("10.0.0.2/24",), "mac": "02:00:0a:00:00:02", "mtu": 1400, "phydev": "p0"})
    assert superseded(after, before) == ()


def test_what_is_on_the_node_is_remembered_until_it_was_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = network(A, {"phydev": "p0", "trunk": TrunkPort((7,))}, {"bridge": "br1", "uplink": Vlan("p1.5", "p1", 5)})
    second, third = network(A, {"phydev": "p1"}), network(A, {"phydev": "p2"})
    store.keep_network(first)
    store.keep_container(A, ContainerId("a" * 64))
    store.keep_network(second)
    store.keep_network(third)
    store.keep_network(third)

    kept = Store(tmp_path).get(A)
    assert kept is not None
    assert (kept.network, kept.containers) == (third, ("a" * 64,))
    assert {(nic.bridge, nic.phydev) for nic in kept.superseded} == {("br0", "p0"), ("br0", "p1"), ("br1", None)}
    assert {nic.trunk for nic in kept.superseded} == {TrunkPort((7,)), None}
    assert kept.earlier.nics == (*third.nics, *kept.superseded)

    store.made(A)
    assert Store(tmp_path).get(A) == Kept(third, ("a" * 64,))  # type: ignore[arg-type]


def test_it_is_not_more_when_the_same_is_tried_again_and_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(20):
        store.keep_network(network(A, {"phydev": f"p{number % 2}"}))
    kept = store.get(A)
    assert kept is not None
    assert [nic.phydev for nic in kept.superseded] == ["p0"]


def test_a_removal_knows_it_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_network(network(A, {"phydev": "p0"}))
    store.keep_network(network(A, {"phydev": "p1"}))
    store.begin_removal(A)
    kept = Store(tmp_path).get(A)
    assert kept is not None
    assert (kept.removing, [nic.phydev for nic in kept.superseded]) == (True, ["p0"])


def test_what_another_vm_asks_for_is_not_taken_from_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for vm, phydev in ((A, "p0"), (B, "p3"), (A, "p1"), (B, "p0")):
        store.keep_network(network(vm, {"phydev": phydev}))
    assert {kept.network.vm: [nic.phydev for nic in kept.superseded] for kept in Store(tmp_path)} == {A: [], B: ["p3"]}


def test_a_device_that_is_half_put_in_the_place_of_another_is_left_to_who_stays(tmp_path: Path) -> None:
    store, c = Store(tmp_path), VmId(280_002)
    store.keep_network(network(A, {"phydev": "p0"}, {"bridge": "br1", "phydev": "p9"}))
    store.keep_network(network(B, {"bridge": "br1"}, {"phydev": "p0", "addresses": ("10.0.0.2/24",)}))
    store.keep_network(network(c, {"bridge": "br2"}))
    store.keep_network(network(A, {"phydev": "p1"}, {"bridge": "br1", "phydev": "p9"}))
    store.keep_network(network(A, {"phydev": "p2"}, {"bridge": "br1", "phydev": "p9"}))
    store.begin_removal(A)
    assert store.hand_on(A) == B
    assert store.hand_on(A) == B, "as often as an agent is killed before it forgets the VM"

    heir = Store(tmp_path).get(B)
    assert heir is not None
    assert [(nic.bridge, nic.phydev) for nic in heir.superseded] == [("br0", "p2"), ("br0", "p1")]
    link = HostLink("p1", 7, master="br0")
    bridges = {name: HostLink(name, 9, "bridge", up=True) for name in ("br0", "br1")}
    seen = Seen(host={**bridges, "p1": link, "p0": replace(link, name="p0", master=None, up=True)})
    steps = plan(heir.network, seen, heir.earlier)
    assert [one for one in steps if isinstance(one, Unplug | PlugIn)] == [Unplug("p1"), PlugIn("p0", "br0")]


def test_what_is_made_or_wanted_by_others_is_left_to_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for vm, phydev in ((A, "p0"), (B, "p1"), (A, "p1")):
        store.keep_network(network(vm, {"phydev": phydev}))
    assert superseded(network(A, {"phydev": "p1"}), network(A, {"phydev": "p0"})) != ()
    assert store.hand_on(A) == B, "p0 is in the bridge, or not"
    kept = store.get(B)
    assert kept is not None
    assert [nic.phydev for nic in kept.superseded] == ["p0"]
    for vm in (A, B):
        store.made(vm)
    assert store.hand_on(A) is None
    assert store.hand_on(VmId(280_009)) is None


def test_who_has_asked_for_it_before_follows() -> None:
    changed = network(A, {"phydev": "p2"})
    earlier = Network(A, (*changed.nics, *superseded(changed, network(A, {"phydev": "p0"}))))
    assert follow(network(B, {"phydev": "p0"}), changed, earlier) == network(B, {"phydev": "p2"})


def test_the_file_of_an_older_agent_is_read_and_an_empty_one_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_network(network(A, {}))
    file = tmp_path / f"{A}.json"
    content = json.loads(file.read_bytes())
    del content["superseded"]
    file.write_text(json.dumps(content))
    (tmp_path / f"{B}.json").touch()
    assert list(Store(tmp_path)) == [Kept(network(A, {}))]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
