"""A bridge that comes back: whose ports are plugged in with it, and what that leaves for each VM's own look."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import run

from onedock.nodeside.agent.healing import together
from onedock.nodeside.agent.healing.healer import Healer
from onedock.nodeside.agent.healing.notices import Notice
from onedock.nodeside.agent.seen import vm_group
from onedock.nodeside.agent.steps import ConfigureSwitch, CreateBridge, PlugIn, RaiseNic
from onedock.nodeside.heals import Cause
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import OvsPort, Switch, TrunkPort

A, B = VmId(1), VmId(2)


def nic(vm: VmId, **changes: Any) -> Nic:
    made = Nic(0, "eth0", f"one-{vm}-0", "02:00:00:00:00:01", "br0")
    return replace(made, **changes)


def link(vm: VmId, **changes: Any) -> Notice:
    made = Notice(Cause.LINK, 10 + vm, f"one-{vm}-0", group=vm_group(vm), loose=True)
    return replace(made, **changes)


def test_a_bridge_is_joined_by_being_made_or_plugged_into() -> None:
    network = Network(A, (nic(A),))
    assert together.joined(network, (CreateBridge("br0", None), RaiseNic("eth0"))) == {"br0"}
    assert together.joined(network, (PlugIn("one-1-0", "br0"),)) == {"br0"}
    assert together.joined(network, (PlugIn("eth9", "br0"), RaiseNic("eth0"))) == set(), "a device on the wire"


def test_host_sides_that_lost_their_bridge_are_found() -> None:
    networks = (Network(B, (nic(B),)),)
    assert together.find_loose({"br0"}, networks, (link(B),)) == {12: (B, PlugIn("one-2-0", "br0"))}


def test_what_is_plugged_elsewhere_by_others_or_in_another_way_is_left_alone() -> None:
    for nics, links, bridges in (
        ((nic(B),), (link(B, loose=False),), {"br0"}),
        ((nic(B),), (link(B, group=vm_group(A)),), {"br0"}),
        ((nic(B),), (link(B),), {"br1"}),
        ((nic(B),), (link(A),), {"br0"}),
        ((nic(B, trunk=TrunkPort()),), (link(B),), {"br0"}),
        ((nic(B, switch=Switch.OPENVSWITCH),), (link(B, loose=False),), {"br0"}),
    ):
        assert together.find_loose(bridges, (Network(B, nics),), links) == {}


def test_ports_of_a_switch_come_back_with_their_vlans() -> None:
    made = ConfigureSwitch(("--", "add-br", "br0", "--", "set", "Bridge", "br0", "external_ids:onedock=yes"))
    network = Network(B, (nic(B, switch=Switch.OPENVSWITCH, ovs=OvsPort(10)),))
    assert together.joined(network, (made,)) == {"br0"}
    [(vm, step)] = together.find_loose({"br0"}, (network,), (link(B),)).values()
    assert (vm, together.joined(network, (step,))) == (B, {"br0"})
    assert isinstance(step, ConfigureSwitch)
    assert step.commands[:4] == ("--", "add-port", "br0", "one-2-0")
    assert "tag=10" in step.commands
    assert together.joined(network, (ConfigureSwitch(("--", "set", "Port", "one-2-0", "tag=10")),)) == set()


def test_a_switch_that_refuses_leaves_it_to_each_vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "ovs-vsctl"
    monkeypatch.setenv("PATH", str(tmp_path))
    step = ConfigureSwitch(("--", "add-port", "br0", "one-2-0"))
    assert together.plug({12: (B, step)}) == {}, "it is missing"
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    assert together.plug({12: (B, step)}) == {}
    tool.write_text("#!/bin/sh\nexit 0\n")
    assert together.plug({12: (B, step)}) == {B: [step]}


class Node:
    """VMs on one bridge: the first that is looked at puts all of them back."""

    def __init__(self, vms: int) -> None:
        self.looks: list[tuple[VmId, float]] = []
        self.loose: set[VmId] = set()
        self.vms = [VmId(number) for number in range(1, vms + 1)]
        self.healer = Healer(self.heal)
        self.bridge = asyncio.Lock()
        self.begun: set[VmId] = set()

    def delete_bridge(self) -> None:
        self.loose = set(self.vms)
        for vm in self.vms:
            self.healer.mark(vm, Cause.LINK, shared=True)

    async def heal(self, vm: VmId) -> tuple[str, ...]:
        self.begun.add(vm)
        async with self.bridge:
            self.healer.clear(vm)
            self.looks.append((vm, round(asyncio.get_running_loop().time(), 2)))
            await asyncio.sleep(0.1)
            loose, self.loose = self.loose, set()
            for other in loose - {vm}:
                self.healer.mark(other, Cause.PORT)
                self.healer.put_back(other, ("plug in",))
        return ("plug in",) if vm in loose else ()


def in_no_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    return lambda: run(test())


@in_no_time
async def test_each_is_counted_once_with_its_own_time_and_still_looked_at() -> None:
    node = Node(9)
    node.delete_bridge()
    await asyncio.sleep(10)
    told = node.healer.record.heals(0)
    assert told.counts == {Cause.LINK: 9}
    assert sorted((one.vm, one.seconds) for one in told.recent) == [(vm, 0.25) for vm in range(1, 10)]
    assert sorted(vm for vm, _ in node.looks) == node.vms
    assert [one.number for one in told.recent] == list(range(1, 10))


@in_no_time
async def test_what_is_back_already_is_made_sure_of_after_all_that_is_broken() -> None:
    node = Node(9)
    node.delete_bridge()
    await asyncio.sleep(0.3)
    other, again = VmId(20), next(vm for vm in node.vms if vm not in node.begun)
    node.healer.mark(other, Cause.ADDRESS)
    node.healer.mark(again, Cause.ADDRESS)
    await asyncio.sleep(10)
    order = [vm for vm, _ in node.looks]
    assert set(order[4:6]) == {other, again}, "right after those that had begun"
    assert sorted(vm for vm, _ in node.looks) == [*node.vms, 20]


@in_no_time
async def test_a_bridge_that_is_deleted_for_ever_is_not_raced() -> None:
    node = Node(5)
    for _ in range(400):
        node.delete_bridge()
        await asyncio.sleep(0.05)
    heals = sum(node.healer.record.heals(0).counts.values())
    assert heals < 5 * 12, "20 seconds of it"
