"""What nftables is asked for: the exact transaction for small networks, and its size for large ones."""

import json
from dataclasses import replace
from typing import Any

import pytest

from onedock.nodeside.agent.firewall import matches
from onedock.nodeside.agent.firewall.document import ETHER_TYPE, Part
from onedock.nodeside.agent.firewall.host import owner
from onedock.nodeside.agent.firewall.ruleset import Ruleset, host_ruleset, vm_ruleset
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import (
    Bandwidth,
    Direction,
    Method,
    OvsPort,
    Protocol,
    SecurityRule,
    Spoofing,
    TrunkPort,
)

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
VM = VmId(230_001)
PLAIN = Nic(0, "eth0", "one-230001-0", "02:00:0A:00:00:01", "br0", addresses=("10.0.0.1/24", "fd00::1/64"))
ALL_IN, ALL_OUT = SecurityRule(0, IN, Protocol.ALL), SecurityRule(0, OUT, Protocol.ALL)
WEB = SecurityRule(101, IN, Protocol.TCP, ports=((80, 80), (443, 444)))


def commands(ruleset: Ruleset | None, kind: str) -> list[dict[str, Any]]:
    """What is added and stays."""
    assert ruleset is not None
    found = json.loads(ruleset.text)["nftables"]
    stays = [one for one, then in zip(found, [*found[1:], {}], strict=True) if "delete" not in then]
    return [one["add"][kind] for one in stays if kind in one.get("add", {})]


def chain(ruleset: Ruleset | None, name: str) -> list[list[Any]]:
    return [rule["expr"] for rule in commands(ruleset, "rule") if rule["chain"] == name]


def of(nic: Nic, **changes: Any) -> Network:
    return Network(VM, (replace(nic, **changes),))


@pytest.mark.parametrize("rules", [None, (ALL_IN, ALL_OUT), (ALL_OUT, WEB, ALL_IN)])
def test_nothing_is_wanted_where_everything_passes(rules: tuple[SecurityRule, ...] | None) -> None:
    assert vm_ruleset(of(PLAIN, rules=rules)) is None
    assert host_ruleset(of(PLAIN, rules=rules, inbound=Bandwidth(1000))) is None
    assert vm_ruleset(Network(VM)) is None


def test_the_stateful_table() -> None:
    found = vm_ruleset(of(PLAIN, rules=(ALL_OUT, WEB)))
    assert found is not None
    assert found.tables == (("inet", "onedock"), ("netdev", "onedock"))
    assert found.unguarded is None, "whoever may send everything needs no raw frames to do so"
    table, guard = ({"table": {"family": family, "name": "onedock"}} for family in ("inet", "netdev"))
    assert json.loads(found.text)["nftables"][:3] == [{"add": table}, {"delete": table}, {"add": table}]
    assert json.loads(found.text)["nftables"][-2:] == [{"add": guard}, {"delete": guard}]
    state = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}
    seal = next(one["value"] for rule in chain(found, "in-eth0") for part in rule if (one := part.get("mangle")))
    flow = {"ct": {"key": "mark"}}
    assert chain(found, "in-eth0") == [
        [state, {"counter": "eth0.in.established"}, {"accept": None}],
        [
            {"match": {"op": "==", "left": flow, "right": seal}},
            {"counter": "eth0.in.established"},
            {"accept": None},
        ],
        [
            {
                "match": {
                    "op": "==",
                    "left": {"payload": {"protocol": "icmpv6", "field": "type"}},
                    "right": {"set": [134, 135, 136, 137]},
                }
            },
            {"counter": "eth0.in.neighbours"},
            {"accept": None},
        ],
        [
            {"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 1}},
            {"counter": "eth0.in.own"},
            {"accept": None},
        ],
        [
            {
                "match": {
                    "op": "==",
                    "left": {
                        "concat": [
                            {"meta": {"key": "l4proto"}},
                            {"payload": {"protocol": "th", "field": "dport"}},
                        ]
                    },
                    "right": "@in-eth0-101-proto-port",
                }
            },
            {"mangle": {"key": flow, "value": seal}},
            {"accept": None},
        ],
        [{"counter": "eth0.in.dropped"}, {"drop": None}],
    ]
    assert commands(found, "set") == [
        {
            "family": "inet",
            "table": "onedock",
            "name": "in-eth0-101-proto-port",
            "type": ["inet_proto", "inet_service"],
            "flags": ["interval"],
            "stmt": [{"counter": None}],
            "elem": [
                {"elem": {"val": {"concat": [6, 80]}, "comment": "tcp 80,443-444 from anybody"}},
                {"elem": {"val": {"concat": [6, {"range": [443, 444]}]}, "comment": "tcp 80,443-444 from anybody"}},
            ],
        }
    ]
    assert len(chain(found, "out-eth0")) == 2, "nothing is dropped on the way out"


def test_who_may_not_send_everything_is_guarded() -> None:
    found = vm_ruleset(of(PLAIN, rules=(ALL_IN, SecurityRule(7, OUT, Protocol.UDP, ports=((53, 53),)))))
    assert found is not None
    assert found.tables == (("inet", "onedock"), ("netdev", "onedock"))
    assert found.unguarded is not None
    assert "egress" not in found.unguarded
    assert [one[-1] for one in chain(found, "guard-eth0")] == [{"accept": None}, {"accept": None}, {"drop": None}]
    assert not chain(found, "in-eth0")


@pytest.mark.parametrize(
    ("changes", "discovers"),
    [
        ({"rules": ()}, False),
        ({"rules": (), "method": Method.DHCP}, True),
        ({"rules": (), "spoofing": Spoofing(ip=True)}, True),
        ({"rules": (SecurityRule(1, OUT, Protocol.UDP),)}, True),
        ({"rules": (SecurityRule(1, OUT, Protocol.UDP, ports=((60, 70),)),)}, True),
        ({"rules": (SecurityRule(1, OUT, Protocol.UDP, ports=((53, 53),)),)}, False),
        ({"rules": (SecurityRule(1, OUT, Protocol.ALL, peers=(("10.0.0.0", "10.0.0.9"),)),)}, False),
        ({"rules": (SecurityRule(1, OUT, Protocol.ALL, peers=(("10.0.0.0", "255.255.255.255"),)),)}, True),
        ({"rules": (SecurityRule(1, OUT, Protocol.TCP),)}, False),
    ],
)
def test_a_dhcp_client_with_raw_sockets_is_heard_if_the_rules_say_so(changes: Any, discovers: bool) -> None:
    assert len(chain(vm_ruleset(of(PLAIN, **changes)), "guard-eth0")) == (4 if discovers else 3)


def test_overlapping_rules_of_one_group_share_elements_and_groups_share_none() -> None:
    rules = (
        SecurityRule(1, IN, Protocol.TCP, ports=((1, 100),), peers=(("10.0.0.0", "10.0.0.9"),)),
        SecurityRule(1, IN, Protocol.TCP, ports=((50, 200),), peers=(("10.0.0.5", "10.0.0.9"),)),
        SecurityRule(2, IN, Protocol.TCP, ports=((50, 60),), peers=(("10.0.0.5", "10.0.0.5"), ("fd00::1", "fd00::1"))),
        SecurityRule(2, IN, Protocol.ICMP, icmp_type=8),
        SecurityRule(2, IN, Protocol.ICMP, peers=(("10.0.0.5", "10.0.0.5"), ("fd00::1", "fd00::1"))),
        SecurityRule(2, IN, Protocol.IPSEC),
    )
    sets = commands(vm_ruleset(of(PLAIN, rules=rules)), "set")
    found = {one["name"]: [element["elem"]["val"] for element in one["elem"]] for one in sets}
    first, second = "tcp 1-100 from 10.0.0.0-10.0.0.9", "tcp 50-200 from 10.0.0.5-10.0.0.9"
    assert [element["elem"]["comment"] for element in sets[0]["elem"]] == [first, first, second]
    assert found == {
        "in-eth0-1-proto-net4-port": [
            {"concat": [6, {"range": ["10.0.0.0", "10.0.0.4"]}, {"range": [1, 100]}]},
            {"concat": [6, {"range": ["10.0.0.5", "10.0.0.9"]}, {"range": [1, 100]}]},
            {"concat": [6, {"range": ["10.0.0.5", "10.0.0.9"]}, {"range": [101, 200]}]},
        ],
        "in-eth0-2-proto-net4-port": [{"concat": [6, "10.0.0.5", {"range": [50, 60]}]}],
        "in-eth0-2-proto-net6-port": [{"concat": [6, "fd00::1", {"range": [50, 60]}]}],
        "in-eth0-2-icmp": [8],
        "in-eth0-2-icmp-net4": [{"concat": [{"range": [0, 255]}, "10.0.0.5"]}],
        "in-eth0-2-proto": [50],
    }


def test_a_thousand_rules_are_elements_and_not_rules() -> None:
    peers = [f"10.{number // 250}.{number % 250}.1" for number in range(1000)]
    rules = tuple(
        SecurityRule(1, IN, Protocol.TCP, ((80, 80 + n),), None, ((peer, peer),)) for n, peer in enumerate(peers)
    )
    found = vm_ruleset(of(PLAIN, rules=(*rules, ALL_OUT)))
    assert len(commands(found, "rule")) < 15
    (the_set,) = commands(found, "set")
    assert len(the_set["elem"]) == 1000


def test_rules_that_overlap_without_end_are_refused() -> None:
    nested = tuple(
        SecurityRule(1, IN, Protocol.TCP, ((2 * n, 2 * n),), None, ((f"10.0.{n // 256}.{n % 256}", "10.9.0.0"),))
        for n in range(400)
    )
    assert matches.MOST_ELEMENTS < 400 * 401 / 2
    with pytest.raises(TerminalError, match="fewer distinct ranges"):
        vm_ruleset(of(PLAIN, rules=nested))


def test_the_digest_follows_the_rules() -> None:
    rulesets = [vm_ruleset(of(PLAIN, rules=(replace(WEB, group=group),))) for group in (101, 101, 102)]
    first, same, other = [one.digest for one in rulesets if one is not None]
    assert first == same != other


def test_the_filter_of_macs() -> None:
    found = host_ruleset(of(PLAIN, spoofing=Spoofing(mac=True)))
    assert found is not None
    assert found.tables == ()
    assert found.part == Part(VM, frozenset({0}))
    (base, nd) = commands(found, "chain")
    assert (base["hook"], base["dev"], base["policy"]) == ("ingress", "one-230001-0", "accept")
    assert nd["name"] == "one-230001-0.nd"
    link = {"payload": {"protocol": "ether", "field": "saddr"}}
    assert chain(found, "one-230001-0")[0] == [
        {"match": {"op": "!=", "left": link, "right": "02:00:0a:00:00:01"}},
        {"counter": "one-230001-0.mac"},
        {"drop": None},
    ]
    assert {one["name"].partition(".")[2] for one in commands(found, "counter")} == {"mac", "vlan", "arp", "nd"}


def test_a_filter_that_asks_less_leaves_nothing_of_what_it_was() -> None:
    found = host_ruleset(of(PLAIN, spoofing=Spoofing(mac=True)))
    assert found is not None
    gone = [tuple(one["delete"].items()) for one in json.loads(found.text)["nftables"] if "delete" in one]
    names = [(kind, what["name"].removeprefix("one-230001-0")) for ((kind, what),) in gone]
    assert names == [
        *(("chain", one) for one in ("", ".nd", ".nameless")),
        *(("set", one) for one in (".net4", ".net6")),
        *(("counter", one) for one in (".rate", ".ethertype", ".ipv4", ".dhcp-server", ".ipv6", ".router")),
    ]


def test_chains_have_the_names_of_vm_and_nic_whatever_the_link_is_called() -> None:
    found = host_ruleset(of(PLAIN, host_name="one-7-0.nd", spoofing=Spoofing(ip=True)))
    assert {one["name"].partition(".")[0] for one in commands(found, "chain")} == {"one-230001-0"}
    assert commands(found, "chain")[0]["dev"] == "one-7-0.nd"


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("one-7-0", (7, 0)),
        ("one-7-12.dhcp-server", (7, 12)),
        ("one-7-", None),
        ("one-7-0x", None),
        ("one--7-0", None),
        ("another", None),
        ("__set0", None),
        ("", None),
    ],
)
def test_whose_a_name_is(name: str, whose: tuple[int, int] | None) -> None:
    assert owner(name) == whose


def test_the_filter_of_addresses_knows_all_of_them() -> None:
    spoofing = Spoofing(ip=True, addresses=("10.0.0.77", "fd00::77"))
    found = host_ruleset(of(PLAIN, spoofing=spoofing))
    assert {one["name"]: one.get("elem") for one in commands(found, "set")} == {
        "one-230001-0.net4": ["10.0.0.1", "10.0.0.77"],
        "one-230001-0.net6": ["fd00::1", "fd00::77", "fe80::aff:fe00:1"],
    }
    nobody = host_ruleset(of(PLAIN, addresses=(), spoofing=Spoofing(ip=True)))
    assert [one.get("elem") for one in commands(nobody, "set")] == [None, ["fe80::aff:fe00:1"]]


@pytest.mark.parametrize(
    ("changes", "tags"),
    [
        ({}, False),
        ({"trunk": TrunkPort(untagged=7)}, False),
        ({"trunk": TrunkPort(tagged=(7, 8))}, True),
        ({"ovs": OvsPort(tag=7)}, False),
        ({"ovs": OvsPort(trunks=(7,))}, True),
        ({"ovs": OvsPort(tag=1, cvlans=(7,))}, True),
    ],
)
def test_tags_pass_where_the_network_wants_them(changes: Any, tags: bool) -> None:
    found = host_ruleset(of(PLAIN, spoofing=Spoofing(mac=True, ip=True), **changes))
    outer = [rule for rule in chain(found, "one-230001-0") if rule[0].get("match", {}).get("left") == ETHER_TYPE]
    assert len(outer) == (0 if tags else 2)


def test_the_limit_of_raw_frames_is_above_the_shaper() -> None:
    found = host_ruleset(of(PLAIN, outbound=Bandwidth(average=1_000_000, peak=4_000_000, burst=9_000_000)))
    (rule,) = chain(found, "one-230001-0")
    assert rule[0]["limit"]["rate"] == 5_000_000
    assert rule[0]["limit"]["burst"] == 18_000_000
    assert rule[0]["limit"]["inv"] is True


def test_every_nic_has_chains_of_its_own() -> None:
    second = replace(PLAIN, index=1, name="eth1", host_name="one-230001-1", rules=(), spoofing=Spoofing(mac=True))
    network = Network(VM, (replace(PLAIN, rules=(WEB,)), second, replace(PLAIN, index=2, name="eth2")))
    names = [one["name"] for one in commands(vm_ruleset(network), "chain")]
    assert names == ["inbound", "outbound", "in-eth0", "out-eth0", "in-eth1", "out-eth1", "guard-eth0", "guard-eth1"]
    assert [one["name"] for one in commands(host_ruleset(network), "chain")] == ["one-230001-1", "one-230001-1.nd"]


def test_sets_without_ranges_are_hash_tables() -> None:
    rules = (
        SecurityRule(1, IN, Protocol.TCP, ports=((22, 22), (80, 80))),
        SecurityRule(1, IN, Protocol.ALL, peers=(("10.0.0.1", "10.0.0.9"),)),
    )
    found = {one["name"]: one.get("flags") for one in commands(vm_ruleset(of(PLAIN, rules=rules)), "set")}
    assert found == {"in-eth0-1-proto-port": None, "in-eth0-1-net4": ["interval"]}
