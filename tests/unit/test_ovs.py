"""Open vSwitch: its answers as values, the exact commands that a network becomes, what its refusals are taken for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onedock.nodeside.agent import ovs
from onedock.nodeside.agent.ovs_rows import KIND, MASTER, OpenVswitch, SwitchPort, parse
from onedock.nodeside.agent.plan import plan
from onedock.nodeside.agent.plan.ovs import port_columns
from onedock.nodeside.agent.seen import BRIDGE_GROUP, HostLink, InnerLink, Seen, vm_alias, vm_group
from onedock.nodeside.agent.steps import ConfigureSwitch, CreateUplink, CreateVeth, RaiseNic, Step, Unplug
from onedock.nodeside.agent.steps.words import in_words
from onedock.reconcilers.errors import OnedockError, TerminalError, TransientError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import OvsPort, Switch, Vxlan

VM = VmId(260)
NIC = Nic(0, "eth0", "one-260-0", "02:00:00:00:00:07", "ovsbr0", switch=Switch.OPENVSWITCH, ovs=OvsPort())
ANSWER = """\
{"data":[["br0",["set",[["uuid","a"],["uuid","b"]]],["map",[["onedock","yes"]]]],["br1",["uuid","c"],["map",[]]]],\
"headings":["name","ports","external_ids"]}
{"data":[[["uuid","b"],"br0",["set",[]],["set",[]],["set",[]],["set",[]],["map",[]],["map",[]]],\
[["uuid","a"],"p0",10,["set",[20,21]],["set",[]],"native-untagged",["map",[["qinq-ethtype","802.1q"]]],\
["map",[["onedock-nic","0"],["onedock-vm","5"]]]],\
[["uuid","d"],"orphan",["set",[]],["set",[]],["set",[]],["set",[]],["map",[]],["map",[]]]],\
"headings":["_uuid","name","tag","trunks","cvlans","vlan_mode","other_config","external_ids"]}
{"data":[[["map",[["vlan-limit","2"]]]]],"headings":["other_config"]}
"""


def commands(steps: tuple[Step, ...]) -> list[str]:
    return [" ".join(step.commands) for step in steps if isinstance(step, ConfigureSwitch)]


def port(nic: Nic = NIC, **changes: Any) -> SwitchPort:
    return replace(SwitchPort(nic.host_name, nic.bridge, port_columns(VM, nic)), **changes)


def seen(*ports: SwitchPort, ours: bool = True, master: str | None = MASTER, **host: HostLink) -> Seen:
    """A VM whose veth is there, on a node with one bridge of Open vSwitch."""
    veth = HostLink("one-260-0", 7, "veth", vm_group(VM), vm_alias(VM), up=True, master=master, peer=2)
    links = {"ovsbr0": HostLink("ovsbr0", 5, KIND), veth.name: veth, **{link.name: link for link in host.values()}}
    inner = InnerLink("eth0", 2, "veth", NIC.mac, up=True, peer=7)
    switch = OpenVswitch({"ovsbr0": ours}, {one.name: one for one in ports})
    return Seen(namespace=True, loopback_up=True, inner=(inner,), host=links, ovs=switch)


def test_the_answer_of_a_real_one() -> None:
    found = parse(ANSWER)
    assert found.bridges == {"br0": True, "br1": False}
    assert set(found.ports) == {"br0", "p0"}
    assert found.ports["p0"].bridge == "br0"
    assert found.ports["p0"].columns["trunks"] == {"20", "21"}
    assert found.ports["p0"].has_mark("onedock-vm=5")
    assert found.ports_of("br0") == (found.ports["p0"],)
    assert found.vlan_limit == 2
    for hostile in ("", "{}", ANSWER.replace("vlan-limit", "x") + "{}", ANSWER.replace('"2"', '"x"'), "[]\n[]\n[]"):
        with pytest.raises(TransientError, match="Open vSwitch's answer is not understood"):
            parse(hostile)


def test_everything_is_made_in_this_order() -> None:
    steps = plan(Network(VM, (replace(NIC, ovs=OvsPort(10)),)), Seen(ovs=OpenVswitch()))
    assert commands(steps) == [
        "-- add-br ovsbr0 -- set Bridge ovsbr0 external_ids:onedock=yes",
        "-- add-port ovsbr0 one-260-0 -- set Port one-260-0 tag=10 trunks=[] cvlans=[] vlan_mode=access"
        " external_ids:onedock-nic=0 external_ids:onedock-vm=260",
    ]
    kinds = [type(step) for step in steps]
    assert kinds.index(CreateVeth) < len(kinds) - 1 - kinds[::-1].index(ConfigureSwitch) < kinds.index(RaiseNic)
    [veth] = [step for step in steps if isinstance(step, CreateVeth)]
    assert veth.bridge is None
    assert in_words(ConfigureSwitch(("--", "del-port", "x"))) == "configure switch del-port x"


@pytest.mark.parametrize(
    ("wanted", "columns"),
    [
        (OvsPort(), "tag=[] trunks=[] cvlans=[] vlan_mode=trunk"),
        (OvsPort(trunks=(6, 7)), "tag=[] trunks=6,7 cvlans=[] vlan_mode=trunk"),
        (OvsPort(5), "tag=5 trunks=[] cvlans=[] vlan_mode=access"),
        (OvsPort(5, (6,)), "tag=5 trunks=6 cvlans=[] vlan_mode=native-untagged"),
        (
            OvsPort(5, (6,), (8, 9), "802.1ad"),
            "tag=5 trunks=[] cvlans=8,9 vlan_mode=dot1q-tunnel other_config:qinq-ethtype=802.1ad",
        ),
    ],
)
def test_a_port_says_its_vlans(wanted: OvsPort, columns: str) -> None:
    steps = plan(Network(VM, (replace(NIC, ovs=wanted),)), Seen(ovs=OpenVswitch({"ovsbr0": False})))
    assert f"set Port one-260-0 {columns} external_ids:" in commands(steps)[-1]
    limit = ["-- set Open_vSwitch . other_config:vlan-limit=2"] if wanted.cvlans else []
    assert commands(steps)[:-1] == limit


def test_what_is_right_is_left_alone_and_what_differs_is_set() -> None:
    assert plan(Network(VM, (NIC,)), seen(port())) == ()
    others = {**port_columns(VM, NIC), "external_ids": port_columns(VM, NIC)["external_ids"] | {"theirs=1"}}
    assert plan(Network(VM, (NIC,)), seen(port(columns=others))) == ()
    changed = plan(Network(VM, (replace(NIC, ovs=OvsPort(9)),)), seen(port()))
    assert commands(changed) == ["-- set Port one-260-0 tag=9 vlan_mode=access"]
    assert len(changed) == 1


def test_a_port_that_is_not_plugged_is_made_anew() -> None:
    again = ["-- add-port ovsbr0 one-260-0 -- set Port one-260-0 tag=[]"]
    for state in (seen(port(), master=None), seen(port(bridge="other")), seen(port(columns={}), master="br0")):
        steps = plan(Network(VM, (NIC,)), state)
        told = commands(steps)
        assert told[0] == "-- --if-exists del-port one-260-0"
        assert [line[: len(again[0])] for line in told[1:]] == again
        assert [step for step in steps if isinstance(step, Unplug)] == [
            Unplug("one-260-0") for link in (state.host["one-260-0"],) if link.master == "br0"
        ]


def test_ports_of_nics_that_are_gone_are_removed_and_those_of_others_are_not() -> None:
    second = replace(NIC, index=1, host_name="one-260-1")
    theirs = SwitchPort("one-261-0", "ovsbr0", {"external_ids": frozenset({"onedock-vm=261"})})
    steps = plan(Network(VM, (NIC,)), seen(port(), port(second), theirs))
    assert commands(steps) == ["-- --if-exists del-port one-260-1"]
    assert commands(plan(Network(VM), seen(port(), theirs))) == ["-- --if-exists del-port one-260-0"]


def test_bridge_options_are_words_of_their_own() -> None:
    options = OvsPort(bridge_options=(("other_config:mac-table-size", "4096"), ("stp_enable", "true")))
    steps = plan(Network(VM, (replace(NIC, ovs=options),)), Seen(ovs=OpenVswitch()))
    assert commands(steps)[0] == (
        "-- add-br ovsbr0 -- set Bridge ovsbr0 external_ids:onedock=yes"
        " other_config:mac-table-size=4096 stp_enable=true"
    )


def test_the_way_to_the_wire() -> None:
    mark = {"external_ids": frozenset({"onedock=yes"})}
    wanted = Network(VM, (replace(NIC, phydev="eth1"),))
    eth1 = HostLink("eth1", 3, up=True)
    plug = "-- add-port ovsbr0 eth1 -- set Port eth1 external_ids:onedock=yes"
    assert commands(plan(wanted, seen(port(), eth1=eth1))) == [plug]
    plugged = replace(eth1, master=MASTER)
    assert plan(wanted, seen(port(), SwitchPort("eth1", "ovsbr0", mark), eth1=plugged)) == ()
    assert plan(wanted, seen(port(), SwitchPort("eth1", "ovsbr0"), eth1=plugged)) == ()
    # Another device that we have plugged leaves first; one that somebody else has plugged stays.
    before = (SwitchPort("eth2", "ovsbr0", mark), SwitchPort("eth3", "ovsbr0"))
    assert commands(plan(wanted, seen(port(), *before, eth1=eth1))) == ["-- --if-exists del-port eth2", plug]

    tunnel = Vxlan("eth1.77", "eth1", 77, group="239.0.0.77")
    steps = plan(Network(VM, (replace(NIC, uplink=tunnel),)), seen(port(), eth1=eth1))
    [made] = [step for step in steps if isinstance(step, CreateUplink)]
    assert made.bridge is None
    assert commands(steps) == ["-- add-port ovsbr0 eth1.77 -- set Port eth1.77 external_ids:onedock=yes"]
    stale = HostLink("eth1.76", 9, "vxlan", BRIDGE_GROUP, master=MASTER)
    steps = plan(wanted, seen(port(), SwitchPort("eth1.76", "ovsbr0", mark), eth1=eth1, stale=stale))
    assert [in_words(step) for step in steps][:2] == [
        "configure switch --if-exists del-port eth1.76",
        "delete host link eth1.76",
    ]


@pytest.mark.parametrize(
    ("state", "wanted", "cause"),
    [
        (
            Seen(host={"ovsbr0": HostLink("ovsbr0", 1, "bridge")}, ovs=OpenVswitch()),
            NIC,
            "ovsbr0 is no Open vSwitch bridge on this node but a bridge link; name another bridge",
        ),
        (
            Seen(host={"ovsbr0": HostLink("ovsbr0", 1, "tun")}, ovs=OpenVswitch({"ovsbr0": False})),
            NIC,
            r"bridge ovsbr0 of Open vSwitch is not in the kernel \(datapath_type=netdev\)",
        ),
        (seen(port()), replace(NIC, phydev="eth1"), "physical device eth1 is missing on this node"),
        (
            seen(port(), eth1=HostLink("eth1", 3, master="br0")),
            replace(NIC, phydev="eth1"),
            "link eth1 is in bridge br0, not ovsbr0",
        ),
        (
            seen(port(), SwitchPort("eth1", "ovsbr1"), eth1=HostLink("eth1", 3, master=MASTER)),
            replace(NIC, phydev="eth1"),
            "link eth1 is in bridge ovsbr1, not ovsbr0",
        ),
    ],
)
def test_conflicts_are_refused(state: Seen, wanted: Nic, cause: str) -> None:
    with pytest.raises(TerminalError, match=cause):
        plan(Network(VM, (wanted,)), state)


@pytest.mark.parametrize(
    ("says", "exit_code", "error", "cause"),
    [
        ("unix:/x: database connection failed (No such file)", 1, TransientError, "Open vSwitch does not run"),
        ("cannot create a bridge named b because a bridge named b already exists", 1, TransientError, "by others"),
        ('no row "one-1-0" in table Port', 1, TransientError, "was changed by others meanwhile"),
        ("Error detected while setting up 'x': could not open", 0, TransientError, "could not do what it was told"),
        ('"perhaps" is not a valid boolean', 1, TerminalError, 'Open vSwitch refuses: "perhaps" is not'),
    ],
)
def test_what_the_tool_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, exit_code: int, error: type[OnedockError], cause: str
) -> None:
    tool = tmp_path / "ovs-vsctl"
    tool.write_text(
        f"#!/bin/sh\n[ $# = 4 ] && [ \"$3\" = 'set x' ] || exit 9\necho >&2 'ovs-vsctl: {says}'\nexit {exit_code}\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(error, match=cause):
        ovs.transact(["--", "set x", "$(reboot)"])


def test_a_tool_that_hangs_or_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TerminalError, match="ovs-vsctl is missing on this node; install openvswitch-switch"):
        ovs.transact(["--", "show"])
    ovs.remove_ports(VM)  # there is nothing to be removed then
    tool = tmp_path / "ovs-vsctl"
    tool.write_text("#!/bin/sh\nkill -ALRM $$\n")
    tool.chmod(0o755)
    with pytest.raises(TransientError, match="Open vSwitch did not do it within 5 s; is ovs-vswitchd running"):
        ovs.transact(["--", "show"])
