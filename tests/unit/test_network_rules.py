"""Security groups: the rules that hold for a NIC."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.networks import changed, only

from onedock.controller.networks.rules import ALLOW_ALL, MAX_RULES
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule

FW = {"VN_MAD": "fw", "SECURITY_GROUPS": "100"}
SSH = {"SECURITY_GROUP_ID": "100", "PROTOCOL": "TCP", "RULE_TYPE": "inbound", "RANGE": "22"}
IN = Direction.INBOUND


def filtered(*rules: dict[str, str], **values: str) -> Nic:
    return only(changed(**(FW | values)), rules=rules)


def of(*rules: dict[str, str]) -> tuple[SecurityRule, ...]:
    found = filtered(*rules).rules
    assert found is not None
    return found


@pytest.mark.parametrize("driver", ["fw", "802.1Q", "vxlan"])
def test_drivers_with_groups(driver: str) -> None:
    nic = filtered(SSH, VN_MAD=driver, PHYDEV="eth1", VLAN_ID="5")
    assert nic.rules == (SecurityRule(100, IN, Protocol.TCP, ports=((22, 22),)),)


@pytest.mark.parametrize("driver", ["bridge", "dummy", "ovswitch"])
def test_drivers_without_groups(driver: str) -> None:
    kind = "openvswitch" if driver == "ovswitch" else "linux"
    assert filtered(SSH, VN_MAD=driver, BRIDGE_TYPE=kind).rules is None
    assert filtered(SSH | {"PROTOCOL": "nonsense"}, VN_MAD=driver, BRIDGE_TYPE=kind).rules is None


@pytest.mark.parametrize("groups", ["", " ", ","])
def test_a_nic_without_groups_is_open(groups: str) -> None:
    assert filtered(SSH, SECURITY_GROUPS=groups).rules == ALLOW_ALL


def test_only_the_rules_of_the_nics_groups_hold() -> None:
    assert of(SSH | {"SECURITY_GROUP_ID": "101"}) == ()
    assert filtered(SSH, SSH | {"SECURITY_GROUP_ID": "0"}, SECURITY_GROUPS="0, 7").rules == (
        SecurityRule(0, IN, Protocol.TCP, ports=((22, 22),)),
    )
    assert filtered(SSH, SECURITY_GROUPS="10").rules == ()


@pytest.mark.parametrize("protocol", ["TCP", "udp", "ICMP", "ICMPv6", "IPSEC", "ALL"])
@pytest.mark.parametrize("direction", ["inbound", "OUTBOUND"])
def test_protocols_and_directions(protocol: str, direction: str) -> None:
    rule = {"SECURITY_GROUP_ID": "100", "PROTOCOL": protocol, "RULE_TYPE": direction}
    assert of(rule) == (SecurityRule(100, Direction(direction.lower()), Protocol(protocol.lower())),)


def test_ports_and_icmp_types() -> None:
    assert of(SSH | {"RANGE": "22,80,1000:2000"})[0].ports == ((22, 22), (80, 80), (1000, 2000))
    ping = {"SECURITY_GROUP_ID": "100", "PROTOCOL": "ICMP", "RULE_TYPE": "inbound", "ICMP_TYPE": "8"}
    assert of(ping) == (SecurityRule(100, IN, Protocol.ICMP, icmp_type=8),)
    assert of(ping | {"PROTOCOL": "ICMPV6", "ICMPV6_TYPE": "128"})[0].icmp_type == 128
    assert of(ping | {"ICMP_TYPE": "0"})[0].icmp_type == 0


def test_a_range_of_addresses() -> None:
    assert of(SSH | {"IP": "10.0.0.0", "SIZE": "256"})[0].peers == (("10.0.0.0", "10.0.0.255"),)
    assert of(SSH | {"IP": "FD00:0::1", "SIZE": "1"})[0].peers == (("fd00::1", "fd00::1"),)
    assert of(SSH | {"IP": "0.0.0.0", "SIZE": "4294967296"})[0].peers == (("0.0.0.0", "255.255.255.255"),)


def test_a_network_is_one_rule_with_all_its_ranges() -> None:
    expanded = SSH | {"NETWORK_ID": "5", "SIZE": "10", "MAC": "02:00:0a:01:00:01", "TYPE": "IP4_6"}
    rules = of(
        expanded | {"AR_ID": "0", "IP": "10.1.0.1", "IP6_GLOBAL": "fd01::1", "IP6_ULA": "fd02::1"},
        expanded | {"AR_ID": "1", "IP": "10.2.0.1"},
        expanded | {"AR_ID": "2", "IP6": "fd03::1", "SIZE": "2"},
        expanded | {"AR_ID": "3"},
    )
    assert rules == (
        SecurityRule(
            100,
            IN,
            Protocol.TCP,
            ports=((22, 22),),
            peers=(
                ("10.1.0.1", "10.1.0.10"),
                ("fd01::1", "fd01::a"),
                ("fd02::1", "fd02::a"),
                ("10.2.0.1", "10.2.0.10"),
                ("fd03::1", "fd03::2"),
            ),
        ),
    )


@pytest.mark.parametrize(
    "target", [{"NETWORK_ID": "5", "SIZE": "10"}, {"SIZE": "10"}, {"NETWORK_ID": "5"}, {"IP": "10.0.0.1", "SIZE": "0"}]
)
def test_a_rule_for_no_address_lets_nobody_through(target: dict[str, str]) -> None:
    assert of(SSH | target) == ()


def test_a_rule_for_everybody_stays_one_beside_the_same_for_some() -> None:
    some = SSH | {"IP": "10.0.0.0", "SIZE": "4"}
    for rules in ((SSH, some), (some, SSH), (some, SSH, some)):
        assert of(*rules) == (SecurityRule(100, IN, Protocol.TCP, ports=((22, 22),)),)


def test_a_rule_given_twice_is_one() -> None:
    assert len(of(SSH, SSH, SSH | {"RANGE": "80"})) == 2


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"PROTOCOL": ""}, "security group 100: PROTOCOL='' is unknown; use TCP"),
        ({"PROTOCOL": "TCP; reboot"}, "PROTOCOL='TCP; reboot' is unknown"),
        ({"RULE_TYPE": "sideways"}, "RULE_TYPE must be inbound or outbound, not 'sideways'"),
        ({"RULE_TYPE": "x" * 1_000_000}, "RULE_TYPE must be inbound or outbound"),
        ({"PROTOCOL": "ALL"}, "RANGE is for TCP and UDP only, not ALL"),
        ({"RANGE": "65536"}, "RANGE must be ports like 22,80,1000:2000, not '65536'"),
        ({"RANGE": "80:22"}, "RANGE must be ports"),
        ({"RANGE": "1:2:3"}, "RANGE must be ports"),
        ({"RANGE": "22,"}, "RANGE must be ports"),
        ({"RANGE": "²"}, "RANGE must be ports"),
        ({"RANGE": "22 } ; flush ruleset"}, "RANGE must be ports"),
        ({"RANGE": "1," * 1_000_000}, "RANGE has more than 15 parts"),
        ({"RANGE": "", "PROTOCOL": "ICMP", "ICMP_TYPE": "256"}, "the ICMP type must be a number up to 255"),
        ({"RANGE": "", "PROTOCOL": "ICMP", "ICMP_TYPE": "8/0"}, "the ICMP type must be a number up to 255, not '8/0'"),
        ({"IP": "10.0.0.0"}, "IP needs SIZE, the number of addresses, not ''"),
        ({"IP": "10.0.0.0", "SIZE": "-1"}, "IP needs SIZE"),
        ({"IP": "10.0.0.0", "SIZE": "9" * 5000}, "IP needs SIZE"),
        ({"IP": "10.0.0.0/8", "SIZE": "1"}, "security group 100: IP is not an IP address"),
        ({"IP": "fe80::1%$(x)", "SIZE": "1"}, "security group 100: IP must be an address without a zone"),
        ({"IP": "255.255.255.255", "SIZE": "2"}, "2 addresses from 255.255.255.255 on do not exist"),
    ],
)
def test_rules_that_are_none_are_refused_with_the_reason(values: dict[str, str], reason: str) -> None:
    with pytest.raises(TerminalError) as caught:
        of(SSH | values)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("groups", ["x", "0,-1", "9" * 5000, "0;100"])
def test_groups_that_are_none(groups: str) -> None:
    with pytest.raises(TerminalError, match="a security group is not a number"):
        filtered(SSH, SECURITY_GROUPS=groups)


def test_too_many_rules_are_refused_and_many_are_quick() -> None:
    many = [SSH | {"RANGE": "", "IP": f"10.{n // 256}.{n % 256}.0", "SIZE": "16"} for n in range(MAX_RULES + 1)]
    begin = time.process_time()
    (rule,) = of(*many[:-1])
    assert time.process_time() - begin < 2
    assert len(rule.peers) == MAX_RULES
    with pytest.raises(TerminalError, match=f"have {MAX_RULES + 1} rules; at most {MAX_RULES}"):
        of(*many)


FIELDS = ["PROTOCOL", "RULE_TYPE", "RANGE", "ICMP_TYPE", "ICMPV6_TYPE", "IP", "SIZE", "IP6", "NETWORK_ID"]
TEXTS = st.sampled_from(["", "TCP", "ALL", "ICMP", "inbound", "22", "1:9", "0", "10.0.0.1", "fd00::1", "x"]) | st.text(
    st.characters(codec="utf-8", min_codepoint=32), max_size=8
)


@given(st.dictionaries(st.sampled_from(FIELDS), TEXTS))
def test_whatever_a_rule_says_it_is_never_wider_than_its_target(values: dict[str, str]) -> None:
    try:
        rules = of({"SECURITY_GROUP_ID": "100", "RULE_TYPE": "inbound", "PROTOCOL": "ALL"} | values)
    except TerminalError:
        return
    targeted = any(values.get(name, "").strip() for name in ("IP", "IP6", "SIZE", "NETWORK_ID"))
    assert all(rule.peers for rule in rules) if targeted else len(rules) == 1
