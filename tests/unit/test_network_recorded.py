"""Networks of the VM documents that a real OpenNebula 7.4 sent to its drivers."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tests.support.networks import changed, network, only
from tests.support.recorded import FIXTURES

from onedock.config.settings import ContainerSettings, NetworkSettings
from onedock.controller.documents import VmmRequest, parse_vmm_request
from onedock.controller.networks import build_network
from onedock.nodeside.agent.validate import check_network
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Direction, Protocol, SecurityRule, Vlan, Vxlan


def requests(step: str) -> Iterator[tuple[str, VmmRequest]]:
    """(action, request) for each message of oned in a step."""
    current = ""
    for line in (FIXTURES / "vmm.jsonl").read_text().splitlines():
        record = json.loads(line)
        current = record.get("step", current)
        if current == step and record.get("from") == "oned" and "xml" in record:
            action, vm = record["head"].split()[:2]
            yield action, parse_vmm_request(record["xml"], VmId(int(vm)))


def of_step(step: str, *, leave_out_marked: bool = False) -> Network:
    action, request = next(requests(step))
    assert action in {"ATTACHNIC", "DETACHNIC", "UPDATENIC", "UPDATESG"}
    return build_network(
        request.vm,
        hostname="web-1",
        settings=ContainerSettings(),
        networks_settings=NetworkSettings(),
        leave_out_marked=leave_out_marked,
    )[0]


def test_attach() -> None:
    first, second, third = of_step("attach nic").nics
    assert first == Nic(
        index=0,
        name="eth0",
        host_name="one-0-0",
        mac="02:00:c0:a8:96:0a",
        bridge="onebr0",
        addresses=("192.168.150.10/24", "192.168.150.11/24"),
        gateways=("192.168.150.1",),
        inbound=Bandwidth(1_024_000),
        dns=("192.168.150.1", "9.9.9.9"),
    )
    assert (second.uplink, second.mtu) == (Vlan("eth1.50", "eth1", 50), 1400)
    assert second.addresses == ("10.9.0.10/24", "fd00::10/64")
    assert second.rules == (
        SecurityRule(0, Direction.OUTBOUND, Protocol.ALL),
        SecurityRule(0, Direction.INBOUND, Protocol.ALL),
    )
    assert (third.index, third.name, third.host_name, third.mtu) == (3, "eth3", "one-0-3", 1450)
    assert third.uplink == Vxlan("eth1.4", "eth1", 4, group="239.0.0.4", ttl=16, mtu=1450)


def test_detach() -> None:
    assert [nic.index for nic in of_step("detach nic").nics] == [0, 1, 3]
    assert [nic.index for nic in of_step("detach nic", leave_out_marked=True).nics] == [0, 1]


def test_update() -> None:
    assert of_step("update nic").nics[0].inbound == Bandwidth(2_048_000)


def test_groups_come_and_go() -> None:
    attached = of_step("attach sg").nics[1].rules
    assert attached is not None
    assert attached[2:] == (
        SecurityRule(100, Direction.INBOUND, Protocol.TCP, ports=((22, 22), (80, 90))),
        SecurityRule(100, Direction.INBOUND, Protocol.ICMP),
        SecurityRule(100, Direction.OUTBOUND, Protocol.ALL),
        SecurityRule(100, Direction.INBOUND, Protocol.TCP, ports=((443, 443),), peers=(("10.0.0.0", "10.0.0.255"),)),
    )
    assert of_step("detach sg").nics[1].rules == attached[:2]
    assert of_step("detach sg").nics[0].rules is None


def test_a_changed_group() -> None:
    _, request = next(requests("update sg rule and commit"))
    assert request.security_group == "100"
    (changed_rule,) = [rule for rule in request.vm.security_rules if rule["SECURITY_GROUP_ID"] == "100"]
    assert changed_rule["RANGE"] == "8080"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "VN_MAD": "fw",
            "SECURITY_GROUPS": "100",
            "METHOD": "dhcp",
            "FILTER_IP_SPOOFING": "YES",
            "BRIDGE_CONF": "stp=on",
        },
        {"VN_MAD": "802.1Q", "PHYDEV": "eth1", "VLAN_ID": "5", "CVLANS": "7,8", "IP_LINK_CONF": "gvrp=on"},
        {
            "VN_MAD": "vxlan",
            "PHYDEV": "eth1",
            "VLAN_ID": "5",
            "VXLAN_REMOTES": "10.9.0.1,10.9.0.2",
            "VXLAN_TEP": "local_ip",
        },
        {"VN_MAD": "vxlan", "PHYDEV": "eth1", "VLAN_ID": "5", "VXLAN_MODE": "evpn", "IP_LINK_CONF": "udpcsum=,tos=8"},
        {"VN_MAD": "ovswitch", "BRIDGE_TYPE": "openvswitch", "VLAN_ID": "5", "VLAN_TAGGED_ID": "6-9"},
        {"VN_MAD": "ovswitch_vxlan", "BRIDGE_TYPE": "openvswitch", "PHYDEV": "eth1", "OUTER_VLAN_ID": "5"},
    ],
)
def test_what_is_asked_for_reaches_the_node_as_it_is(values: dict[str, str]) -> None:
    common = {
        "ROUTES": "10.8.0.0/16 via 10.0.0.1",
        "METRIC": "7",
        "INBOUND_AVG_BW": "8",
        "CONF": "keep_empty_bridge=yes",
    }
    rule = {"SECURITY_GROUP_ID": "100", "PROTOCOL": "TCP", "RULE_TYPE": "inbound", "RANGE": "22,80:90",
            "IP": "10.0.0.1", "SIZE": "9"}  # fmt: skip
    asked = network(changed(**common, **values), rules=(rule,))
    adapter = TypeAdapter(Network)
    received = adapter.validate_json(adapter.dump_json(asked))
    assert received == asked
    check_network(received)


NAMES = [
    "VN_MAD", "BRIDGE", "BRIDGE_TYPE", "PHYDEV", "VLAN_ID", "OUTER_VLAN_ID", "VLAN_TAGGED_ID", "CVLANS", "QINQ_TYPE",
    "TARGET", "MAC", "IP", "IP6", "MTU", "CONF", "BRIDGE_CONF", "OVS_BRIDGE_CONF", "IP_LINK_CONF", "VXLAN_MODE",
    "VXLAN_TEP", "VXLAN_MC", "VXLAN_REMOTES", "METHOD", "IP6_METHOD", "METRIC", "ROUTES", "GATEWAY", "SECURITY_GROUPS",
    "INBOUND_AVG_BW", "INBOUND_PEAK_BW", "FILTER_IP_SPOOFING", "NIC_ID", "NETWORK",
]  # fmt: skip
WORDS = st.sampled_from([
    "bridge", "fw", "802.1Q", "vxlan", "ovswitch", "ovswitch_vxlan", "openvswitch", "eth1", "5", "1-9", "10.0.0.1",
    "a=b", "evpn", "dhcp", "YES", "fd00::1", "x" * 100_000, "../../etc", "$(reboot)", "-rf", "eth0\nlo", "٣", "0",
    "1e3", "stp_enable=true", "keep_empty_bridge=yes,vxlan_ttl=4", "10.0.0.0/8 via 10.0.0.1", "%s", "{}", "\u2028",
])  # fmt: skip
TEXTS = WORDS | st.text(st.characters(codec="utf-8", min_codepoint=32), max_size=20)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), TEXTS, max_size=8))
def test_hostile_texts_are_refused_or_harmless(values: dict[str, str]) -> None:
    try:
        nic = only(changed(**values))
    except TerminalError as refused:
        message = str(refused)
    else:
        message = ""
        links = [nic.name, nic.host_name, nic.bridge, nic.phydev or "a", nic.uplink.name if nic.uplink else "a"]
        assert all(len(name) <= 15 and name.isprintable() and not set(name) & set("/ \n-$;") - {"-"} for name in links)
        assert not any(name.startswith("-") for name in links)
    assert len(message) < 300


@pytest.mark.parametrize(
    "name", ["ROUTES", "CONF", "IP_LINK_CONF", "SECURITY_GROUPS", "VLAN_TAGGED_ID", "VXLAN_REMOTES"]
)
@pytest.mark.parametrize(
    "text", ["," * 1_000_000, "1-" * 500_000, "a=b," * 250_000, "a" + " " * 1_000_000 + "b", "1," * 500_000]
)
def test_a_million_characters_take_no_time(name: str, text: str) -> None:
    try:
        only(changed(VN_MAD="vxlan", PHYDEV="eth1", VLAN_ID="5", **{name: text}))
    except TerminalError as refused:
        message = str(refused)
    else:
        message = ""
    assert len(message) < 300
