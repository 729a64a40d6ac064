"""Transactions by netlink are what nft would make of the same commands."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.support import processes
from tests.support.probing import inside

from onedock.nodeside.agent.firewall import kernel
from onedock.nodeside.agent.firewall.ruleset import Ruleset, host_ruleset, vm_ruleset
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Direction, Method, Protocol, SecurityRule, Spoofing

pytestmark = pytest.mark.root

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
VM = VmId(230_050)
PORTS = ((22, 22), (80, 90), (92, 65_535))
HALF = (("0.0.0.0", "10.0.0.9"), ("10.0.0.11", "10.0.0.11"), ("192.168.0.0", "255.255.255.255"))
RULES = (
    SecurityRule(1, IN, Protocol.TCP, PORTS),
    SecurityRule(1, IN, Protocol.UDP, ((53, 53),), peers=(("fd00::", "fd00::ffff"), ("10.0.0.1", "10.0.0.1"))),
    SecurityRule(1, IN, Protocol.ICMP, icmp_type=8),
    SecurityRule(1, IN, Protocol.ICMP, icmp_type=8, peers=HALF),
    SecurityRule(2, IN, Protocol.ALL, peers=HALF),
    SecurityRule(2, IN, Protocol.ALL, peers=(("10.0.0.12", "10.0.0.20"), ("172.16.0.0", "192.167.255.255"))),
    SecurityRule(2, IN, Protocol.ALL, peers=(("10.0.0.0", "10.0.0.15"),)),
    SecurityRule(2, OUT, Protocol.ICMPV6),
    SecurityRule(2, OUT, Protocol.ICMPV6, peers=(("fd00::", "ffff::"),)),
    SecurityRule(2, OUT, Protocol.IPSEC),
    SecurityRule(3, OUT, Protocol.ALL, peers=(("fd00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),)),
    *(SecurityRule(4, OUT, Protocol.TCP, ((2 * n, 2 * n),), peers=(("10.9.0.1", "10.9.0.9"),)) for n in range(600)),
)
MANY = (
    {"spoofing": Spoofing(mac=True)},
    {"spoofing": Spoofing(ip=True), "method6": Method.AUTO},
    {"spoofing": Spoofing(mac=True, ip=True, addresses=("10.0.0.77", "fd00::77")), "outbound": Bandwidth(10**6)},
    {"addresses": (), "spoofing": Spoofing(ip=True)},
    {"method": Method.DHCP, "spoofing": Spoofing(ip=True)},
    {"rules": ()},
    {"rules": RULES},
    {"rules": RULES, "method": Method.DHCP},
    {"rules": (*RULES, SecurityRule(0, OUT, Protocol.ALL)), "spoofing": Spoofing(mac=True, ip=True)},
)


@pytest.fixture
def netns() -> Iterator[str]:
    name = f"{processes.RUN}-batch"
    _run("ip", "netns", "add", name)
    try:
        for link in ("eth0", f"one-{VM}-0"):
            _run("ip", "-n", name, "link", "add", link, "type", "bridge")
        yield name
    finally:
        _run("ip", "netns", "del", name)


@pytest.mark.parametrize("changes", MANY)
def test_nft_shows_the_same_as_if_it_had_loaded_it(netns: str, changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"addresses": ("10.0.0.1/24", "fd00::1/64"), **changes}
    network = Network(VM, (Nic(0, "eth0", f"one-{VM}-0", "02:00:00:03:82:a2", "br0", **fields),))
    rulesets = [one for one in (vm_ruleset(network), host_ruleset(network)) if one is not None]
    assert rulesets
    for ruleset in rulesets:
        assert inside(netns, partial(kernel.transact, ruleset.text)) is None
        ours = _listed(netns)
        assert any("rule" in one for one in ours)
        _in(netns, "nft", "flush", "ruleset")
        _in(netns, "nft", "-j", "-f", "-", given=ruleset.text)
        assert ours == _listed(netns)
        _in(netns, "nft", "flush", "ruleset")


def test_a_refusal_says_what_is_refused(netns: str) -> None:
    ruleset = vm_ruleset(Network(VM, (Nic(0, "eth0", "", "", "", rules=()),)))
    assert isinstance(ruleset, Ruleset)
    wrong = ruleset.text.replace('"goto":{"target":"', '"goto":{"target":"no-')
    problem = inside(netns, partial(kernel.transact, wrong))
    assert problem is not None
    assert problem.strerror == "add rule inbound: No such file or directory"
    assert _listed(netns) == []


def _listed(netns: str) -> list[dict[str, Any]]:
    """What is there, without the numbers that the kernel gives; rules over several matches of a field included."""
    found = json.loads(_in(netns, "nft", "-j", "-s", "list", "ruleset"))["nftables"]
    kept = [{what: _plain(value) for what, value in one.items()} for one in found if "metainfo" not in one]
    return sorted(kept, key=lambda one: "rule" not in one)


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(one) for key, one in value.items() if key != "handle"}
        case list():
            return [_plain(one) for one in value]
        case str() if value.startswith("0x"):
            return int(value, 16)
    return value


def _in(netns: str, *argv: str, given: str = "") -> str:
    return _run("ip", "netns", "exec", netns, *argv, given=given)


def _run(*argv: str, given: str = "") -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, input=given).stdout
