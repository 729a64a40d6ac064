"""The filters of several VMs in one table: each VM's part is its own, whatever happens to the others."""

import asyncio
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import pytest
from tests.support import processes
from tests.support.probing import inside

from onedock.nodeside.agent.firewall import shared
from onedock.nodeside.agent.firewall.document import Part, Ruleset
from onedock.nodeside.agent.firewall.loaded import DAMAGED, Loaded
from onedock.nodeside.agent.firewall.ruleset import host_ruleset
from onedock.nodeside.agent.healing.watch import Watch
from onedock.nodeside.agent.steps import Scope
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Spoofing

pytestmark = pytest.mark.root

# The second VM's id begins like the first one's.
FIRST, SECOND = VmId(23_004), VmId(230_040)
ALL = Spoofing(mac=True, ip=True)


@pytest.fixture
def netns() -> Iterator[str]:
    name = f"{processes.RUN}-shared"
    _run("ip", "netns", "add", name)
    try:
        for vm in (FIRST, SECOND):
            for index in (0, 1):
                _run("ip", "-n", name, "link", "add", f"one-{vm}-{index}", "type", "bridge")
        yield name
    finally:
        _run("ip", "netns", "del", name)


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def _nft(netns: str, *argv: str) -> str:
    return _run("ip", "netns", "exec", netns, "nft", *argv)


def _ruleset(vm: VmId, *indices: int, spoofing: Spoofing = ALL) -> Ruleset:
    def nic(index: int) -> Nic:
        name = f"one-{vm}-{index}"
        return Nic(index, f"eth{index}", name, "02:00:00:00:00:01", "br0", ("10.0.0.1/24",), spoofing=spoofing)

    ruleset = host_ruleset(Network(vm, tuple(map(nic, indices))))
    assert ruleset is not None
    return ruleset


def _names(netns: str) -> set[str]:
    """Of everything in the table that has a name."""
    words = (line.split() for line in _nft(netns, "list", "table", "netdev", "onedock").splitlines() if line.strip())
    return {line[1] for line in words if line[0] in {"chain", "set", "counter"} and line[-1] == "{"}


def test_a_part_comes_changes_and_goes_alone(netns: str) -> None:
    first, second = _ruleset(FIRST, 0, 1), _ruleset(SECOND, 0)
    assert first.part is not None
    assert second.part is not None
    inside(netns, partial(shared.load, first))
    before = inside(netns, partial(shared.fingerprint, first.part))
    inside(netns, partial(shared.load, second))
    inside(netns, partial(shared.load, _ruleset(SECOND, 1), second.part.nics))
    assert {name for name in _names(netns) if name.startswith(f"one-{SECOND}-0")} == set(), "the first NIC was detached"
    assert inside(netns, partial(shared.fingerprint, first.part)) == before
    assert inside(netns, shared.left) == {FIRST: {0, 1}, SECOND: {1}}
    inside(netns, partial(shared.unload, Part(SECOND, frozenset({1}))))
    assert inside(netns, partial(shared.fingerprint, first.part)) == before
    inside(netns, partial(shared.unload, first.part))
    assert _nft(netns, "list", "ruleset") == ""


def test_a_filter_that_asks_less_leaves_no_more(netns: str) -> None:
    inside(netns, partial(shared.load, _ruleset(FIRST, 0)))
    less = _ruleset(FIRST, 0, spoofing=Spoofing(mac=True))
    inside(netns, partial(shared.load, less))
    chain = f"one-{FIRST}-0"
    assert _names(netns) == {chain, *(f"{chain}.{one}" for one in ("nd", "mac", "vlan", "arp"))}


def test_hits_survive_an_update(netns: str) -> None:
    inside(netns, partial(shared.load, _ruleset(FIRST, 0)))
    counter = f"one-{FIRST}-0.mac"
    _nft(netns, "delete chain netdev onedock", f"one-{FIRST}-0")
    _nft(netns, "delete counter netdev onedock", counter)
    _nft(netns, f"add counter netdev onedock {counter} {{ packets 7 bytes 700; }}")
    inside(netns, partial(shared.load, _ruleset(FIRST, 0)))
    nic = Nic(0, "eth0", "web0", "", "")
    hits = {hit.rule: hit for hit in inside(netns, partial(shared.counters, FIRST, [nic]))}
    assert (hits["mac"].nic, hits["mac"].packets, hits["mac"].bytes) == ("web0", 7, 700)
    assert list(hits) == ["mac", "vlan", "ethertype", "arp", "ipv4", "dhcp-server", "ipv6", "nd", "router"]


def test_the_next_agent_removes_what_is_not_wanted_any_more(netns: str) -> None:
    before = Loaded()
    inside(netns, partial(before.load, FIRST, Scope.NODE, _ruleset(FIRST, 0, 1)))
    inside(netns, partial(before.load, SECOND, Scope.NODE, _ruleset(SECOND, 0)))
    after = Loaded()
    look = partial(inside, netns, partial(after.look, FIRST, Scope.NODE, nullcontext()))
    assert look() == DAMAGED
    inside(netns, partial(after.load, FIRST, Scope.NODE, wanted := _ruleset(FIRST, 1)))
    assert look() == wanted.digest
    assert inside(netns, shared.left) == {FIRST: {1}, SECOND: {0}}
    inside(netns, partial(after.drop, SECOND, Scope.NODE))
    inside(netns, partial(after.drop, FIRST, Scope.NODE))
    assert look() is None
    assert _nft(netns, "list", "ruleset") == ""


def test_after_a_refusal_the_rules_are_loaded_again(netns: str) -> None:
    loaded = Loaded()
    look = partial(inside, netns, partial(loaded.look, FIRST, Scope.NODE, nullcontext()))
    inside(netns, partial(loaded.load, FIRST, Scope.NODE, wanted := _ruleset(FIRST, 0)))
    broken = _ruleset(FIRST, 1)
    broken = Ruleset((), broken.text.replace('"jump":{"target":"', '"jump":{"target":"no-'), broken.part)
    with pytest.raises(TransientError, match="nftables refuses the rules"):
        inside(netns, partial(loaded.load, FIRST, Scope.NODE, broken))
    assert look() == DAMAGED, "nobody knows what the transaction did"
    inside(netns, partial(loaded.load, FIRST, Scope.NODE, wanted))
    assert look() == wanted.digest
    inside(netns, partial(loaded.drop, FIRST, Scope.NODE))
    assert _nft(netns, "list", "ruleset") == ""


def test_the_table_goes_under_nobody_who_fills_it(netns: str) -> None:
    """Two VMs come and go at a time: the table is removed often, and never with the other's part."""
    together = threading.Barrier(2)

    def come_and_go(vm: VmId) -> None:
        ruleset = _ruleset(vm, 0)
        assert ruleset.part is not None
        for _ in range(15):
            together.wait(30)
            loaded = shared.load(ruleset).fingerprint
            assert shared.fingerprint(ruleset.part) == loaded
            shared.unload(ruleset.part)
            assert shared.fingerprint(ruleset.part) is None

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(inside, netns, partial(come_and_go, vm)) for vm in (FIRST, SECOND)]:
            done.result(60)
    assert _nft(netns, "list", "ruleset") == ""


def test_what_was_flushed_comes_back_together_as_it_was(netns: str) -> None:
    loaded, wanted = Loaded(), {FIRST: _ruleset(FIRST, 0, 1), SECOND: _ruleset(SECOND, 0)}
    for vm, ruleset in wanted.items():
        inside(netns, partial(loaded.load, vm, Scope.NODE, ruleset))
    before = _nft(netns, "list", "ruleset")
    again = partial(inside, netns, partial(loaded.load_again, [FIRST, SECOND, VmId(9)]))
    assert again() == {}
    for damage in ("flush ruleset", "flush table netdev onedock"):
        _nft(netns, damage)
        assert again() == {vm: ruleset.digest for vm, ruleset in wanted.items()}, damage
        assert _nft(netns, "list", "ruleset") == before
        for vm, ruleset in wanted.items():
            look = partial(loaded.look, vm, Scope.NODE, nullcontext())
            assert inside(netns, look) == ruleset.digest, "it is the same as before, also for who looks"
    _nft(netns, f"insert rule netdev onedock one-{SECOND}-0 accept")
    assert again() == {SECOND: wanted[SECOND].digest}, "only what was changed"
    assert _nft(netns, "list", "ruleset") == before


def test_a_part_that_cannot_come_back_keeps_no_other_away(netns: str) -> None:
    vms = [VmId(23_100 + number) for number in range(5)]
    loaded = Loaded()
    for vm in vms:
        _run("ip", "-n", netns, "link", "add", f"one-{vm}-0", "type", "bridge")
        inside(netns, partial(loaded.load, vm, Scope.NODE, _ruleset(vm, 0)))
    _nft(netns, "flush", "ruleset")
    _nft(netns, "add table netdev onedock")
    for command in (f"chain netdev onedock one-{vms[1]}-0", f"rule netdev onedock theirs jump one-{vms[1]}-0"):
        _nft(netns, f"add chain netdev onedock theirs; add {command}")
    inside(netns, partial(loaded.drop, vms[3], Scope.NODE))
    assert inside(netns, partial(loaded.load_again, vms)).keys() == {vms[0], vms[2], vms[4]}
    assert inside(netns, shared.left).keys() == {vms[0], vms[1], vms[2], vms[4]}, "the second one's chain is in use"


def test_a_change_makes_the_vm_due_whose_part_it_is_in(netns: str) -> None:
    async def scenario() -> None:
        due: set[VmId] = set()
        watch = Watch(lambda vm, *_: due.add(vm))
        try:
            for vm in (FIRST, SECOND):
                watch.depend(vm, Network(vm, (Nic(0, "eth0", f"one-{vm}-0", "", ""),)))

            def heard() -> set[VmId]:
                watch.settle(VmId(1))  # which has no namespace, so it only reads
                found = set(due)
                due.clear()
                return found

            shared.load(_ruleset(FIRST, 0))
            shared.load(_ruleset(SECOND, 0))
            assert heard() == set(), "our own doing"
            assert watch.touched_filters() == set()
            for command in (
                f"insert rule netdev onedock one-{FIRST}-0 accept",
                f"flush chain netdev onedock one-{FIRST}-0",
                f"add element netdev onedock one-{FIRST}-0.net4 {{ 10.9.9.9 }}",
                f"delete chain netdev onedock one-{FIRST}-0",
            ):
                _nft(netns, command)
                assert heard() == {FIRST}, command
                assert watch.touched_filters() == {FIRST}, command
            _nft(netns, "add chain netdev onedock another")
            _nft(netns, "add table netdev other")
            assert heard() == set()
            _nft(netns, "add table netdev onedock { flags dormant; }")
            assert heard() == {FIRST, SECOND}
            _nft(netns, "delete table netdev onedock")
            assert heard() == {FIRST, SECOND}
        finally:
            await watch.close()

    inside(netns, lambda: asyncio.run(scenario()))


def test_a_limit_alone_has_one_chain(netns: str) -> None:
    nic = Nic(0, "eth0", f"one-{FIRST}-0", "02:00:00:00:00:01", "br0", outbound=Bandwidth(1000))
    ruleset = host_ruleset(Network(FIRST, (nic,)))
    assert ruleset is not None
    inside(netns, partial(shared.load, ruleset))
    assert _names(netns) == {nic.host_name, f"{nic.host_name}.rate"}
