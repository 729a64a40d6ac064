"""`onedock net` for people: the broken hop on top and at its place, right in 80 columns, whole where it is piped."""

import io
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from rich.console import Console, RenderableType
from tests.unit.test_path_fault import GOOD, NIC, VLAN, VXLAN

from onedock.cli.show_net import faults, ways
from onedock.controller.api.paths import nic_view
from onedock.reconcilers.nic_parts import Method
from onedock.reconcilers.path import NicPath, Queue, Resolver, RuleHits

NETWORK = {"NETWORK": "a-network-with-a-rather-long-name", "VN_MAD": "vxlan"}


def view(*nics: NicPath, namespace: bool = True, resolver: Resolver | None = None) -> Any:
    """As the API's client gets it."""
    named = [nic_view(nic, NETWORK) for nic in nics]
    answer = {"vm": 42, "name": "web", "node": "node1", "namespace": namespace, "interval_s": 0.5, "nics": named}
    return json.loads(json.dumps(answer | {"resolver": asdict(resolver) if resolver else None}))


def shown(renderable: RenderableType, *, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, highlight=False)
    console.print(renderable)
    return console.export_text()


assert GOOD.host is not None
assert GOOD.device is not None
LIMITED = replace(GOOD, host=replace(GOOD.host, queue=Queue("tbf", dropped=3, overlimits=120, backlog_bytes=2_500_000)))
FILTERED = replace(
    GOOD,
    nic=replace(NIC, rules=()),
    rules=(
        RuleHits("in.established", 900, 5_000_000),
        RuleHits("in.dropped", 3, 180),
        RuleHits("in.group-100", 0, 0, words="icmp type 8 from anybody"),
        RuleHits("in.group-100", 12, 1200, words="tcp 22,8000-8080 from 10.0.0.0/24, 10.7.0.1-10.7.0.200"),
        RuleHits("in.group-100", 14, 1400, words="udp 53 from anybody"),
        RuleHits("out.group-7", 0, 0, words="tcp to anybody"),
        RuleHits("out.group-7", 0, 0, words="udp to anybody"),
    ),
    forged=(RuleHits("mac", 0, 0), RuleHits("arp", 2, 84)),
)
HITS = (
    "security groups  in.established 900 (5.0 MB), in.dropped 3 (180 B)\n",
    "in, group 100: udp 53 from anybody  14 (1.4 kB)\n",
    "in, group 100: tcp 22,8000-8080 from 10.0.0.0/24, 10.7.0.1-10.7.0.200  12 (1.2 kB)\n",
    "in, group 100: 1 rule not hit yet\n",
    "out, group 7: 2 rules not hit yet\n",
)
UNPLUGGED = replace(GOOD, host=replace(GOOD.host, master=""))
NOWHERE = replace(GOOD, nic=replace(NIC, phydev=None), device=None)
LEASED = replace(
    GOOD, nic=replace(NIC, addresses=(), gateways=(), method=Method.DHCP), leased="10.77.0.10/24 from 10.77.0.2"
)
WAITING = replace(LEASED, leased="", addresses=(), gateways=(), waiting="waiting for a DHCP lease on eth0: nobody")
GONE = NicPath(NIC)
NAMED = replace(GOOD, dns=("10.0.0.1", "10.0.0.2"))

VIEWS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "good": (view(GOOD), ("nothing is broken", "eth0 up, MTU 1500", "10.77.0.1 reachable", "2 other ports", "7 (0 B)")),
    "vlan": (view(VLAN), ("ens3.10 up", "physical device  ens3 up")),
    "vxlan": (view(replace(VXLAN, uplink_to="VXLAN 10, group 239.0.0.10")), ("VXLAN 10, group 239.0.0.10",)),
    "limited": (view(LIMITED), ("queue tbf: 120 delayed, 3 dropped, 2.5 MB wait",)),
    "filtered": (view(FILTERED), (*HITS, "dropped: arp 2 (84 B)")),
    "unplugged": (view(UNPLUGGED), ("VM 42 eth0: one-42-0 is unplugged from br0; the agent puts", "✘ host side", "←")),
    "nowhere": (view(NOWHERE), ("none, no uplink: node only",)),
    "leased": (view(LEASED), ("leased 10.77.0.10/24 from 10.77.0.2",)),
    "waiting": (view(WAITING), ("VM 42 eth0: waiting for a DHCP lease on eth0: nobody; see that", "no address")),
    "gone": (view(GONE, namespace=False), ("no network namespace", "eth0 is missing", "br0 is missing")),
    "names": (
        view(NAMED, resolver=Resolver(("10.0.0.2", "9.9.9.9"), ("a.example",), "changed in the container")),
        ("servers 10.0.0.1 (not in force), 10.0.0.2", "resolv.conf  10.0.0.2, 9.9.9.9; search a.example  ← changed"),
    ),
    "two": (view(UNPLUGGED, replace(GOOD, nic=replace(NIC, index=1, name="eth1"))), ("VM 42 eth0:", "NIC 1")),
    "none": (view(), ("VM 42: it has no NIC",)),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_a_way_fits_into_80_columns_and_says_what_matters(name: str) -> None:
    answer, words = VIEWS[name]
    tree = shown(ways(answer))
    assert all(len(line) <= 80 for line in tree.splitlines()), tree
    text = " ".join(shown(line, width=10_000) for line in faults(answer)) + shown(ways(answer), width=10_000)
    assert "\x1b" not in text
    for word in words:
        assert word in text, text


def test_whole_words_are_left_of_a_way_in_80_columns() -> None:
    flat = " ".join(shown(ways(view(UNPLUGGED))).replace("│", " ").split())
    assert "one-42-0 is unplugged from br0" in flat
    assert "network 'a-network-with-a-rather-long-name' (vxlan)" in flat


def test_what_is_beyond_the_broken_hop_is_not_judged() -> None:
    lines = shown(ways(view(UNPLUGGED)), width=10_000).splitlines()
    assert [line for line in lines if "✘" in line] == [line for line in lines if "host side" in line]
    assert not any("✔" in line for line in lines)


def test_each_broken_nic_has_a_line_on_top() -> None:
    other = replace(UNPLUGGED, nic=replace(NIC, index=1, name="eth1"))
    assert [shown(line, width=10_000).split(":")[0] for line in faults(view(UNPLUGGED, GOOD, other))] == [
        "VM 42 eth0",
        "VM 42 eth1",
    ]
