"""Each check of ``onedock doctor`` finds its fault in the facts, and nothing in sound ones."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from onedock import __version__
from onedock.cli.doctor import as_data, report
from onedock.config.settings import NodeSettings, Settings
from onedock.controller.oned import Host
from onedock.doctor.checks import ALL
from onedock.doctor.facts import Datastore, Disk, Facts, NodeFacts, Trouble
from onedock.doctor.finding import Finding, RemoveNetwork, Severity
from onedock.doctor.sensitive import SENSITIVE
from onedock.nodeside.agent.checkup import drops_forwarded
from onedock.nodeside.checkup import Checkup
from onedock.nodeside.docker import EngineInfo
from onedock.reconcilers.measures import HostUsage
from onedock.reconcilers.model import Container, ContainerId, NodeName, Phase, VmId

NODE = NodeName("node1")
REMOTE = NodeSettings(engine="https://node1:2376")
INFO = EngineInfo("id", "20.10.24", True, 2, {"runc": "runc", "onedock": "/no/such/onedock-runtime"}, "", "/")
CHECKUP = Checkup(__version__, 0.0, 2, disk_total_bytes=100, disk_free_bytes=50)
USAGE = HostUsage(0.0, 0, 0, 0, 100, 50)
SOUND_NODE = NodeFacts(NODE, REMOTE, info=INFO, checkup=CHECKUP, usage=USAGE)
HEALTH: dict[str, Any] = {
    "version": __version__, "journal_error": "", "undelivered": 0, "drivers": {"vmm": True, "im": True},
}  # fmt: skip
SOUND = Facts(
    settings=Settings(nodes={"node1": REMOTE}),
    health=HEALTH,
    hosts=(Host(0, "node1", 2, "onedock"), Host(1, "other", 2, "kvm")),
    datastores=(Datastore(0, "system", True, "", "ssh"), Datastore(1, "images", False, "onedock", "onedock")),
    vms=frozenset({VmId(42)}),
    restricted=SENSITIVE,
    journal_disk=Disk(100, 50),
    nodes=(SOUND_NODE,),
)
OURS = Container(ContainerId("a"), "one-7", VmId(7), "i", "d", "image", Phase.EXITED)


def node(**changes: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, nodes=(replace(SOUND_NODE, **changes),))


def facts_with(**changes: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, **changes)


TABLE: tuple[tuple[str, Callable[[Facts], Facts], str, Severity], ...] = (
    ("controller", facts_with(health=None, api_error="it does not run"), "it does not run", Severity.ERROR),
    ("controller", facts_with(health=HEALTH | {"version": "1"}), "is of release 1", Severity.WARNING),
    ("controller", facts_with(health=HEALTH | {"journal_error": "full"}), "full", Severity.ERROR),
    ("controller", facts_with(health=HEALTH | {"undelivered": 500}), "500 answers", Severity.WARNING),
    ("drivers", facts_with(health=HEALTH | {"drivers": {"vmm": False, "im": True}}), "onedock-vmm", Severity.ERROR),
    ("users", facts_with(restricted=frozenset({"NIC/MAC"})), "users may write NIC/BRIDGE_CONF and", Severity.WARNING),
    ("vms", facts_with(troubles=(Trouble(VmId(42), "web", "no bridge"),)), "VM 42 (web): no bridge", Severity.WARNING),
    ("oned", facts_with(oned_error="oned does not answer"), "oned does not answer", Severity.ERROR),
    ("hosts", facts_with(hosts=(*SOUND.hosts, Host(2, "ghost", 2, "onedock"))), "'ghost'", Severity.ERROR),
    ("hosts", facts_with(hosts=(Host(0, "node1", 3, "onedock"),)), "state ERROR", Severity.ERROR),
    ("hosts", facts_with(hosts=()), "is no host of OpenNebula", Severity.WARNING),
    ("datastores", facts_with(datastores=SOUND.datastores[1:]), "no system datastore", Severity.WARNING),
    ("datastores", facts_with(datastores=SOUND.datastores[:1]), "no image datastore", Severity.WARNING),
    (
        "registry",
        facts_with(registry_error="refused", registry_write_error="refused"),
        "cannot be used",
        Severity.ERROR,
    ),
    ("registry", facts_with(registry_write_error="access denied"), "cannot be written", Severity.ERROR),
    ("engine", node(info=None, engine_error="no answer"), "engine of node node1: no answer", Severity.ERROR),
    ("engine", node(info=replace(INFO, version="19.03.5")), "19.03.5", Severity.WARNING),
    ("runtime", node(info=replace(INFO, runtimes={"runc": "runc"})), "not registered", Severity.ERROR),
    ("runtime", node(settings=NodeSettings()), "is missing", Severity.ERROR),
    ("live-restore", node(info=replace(INFO, live_restore=False)), "live-restore is off", Severity.WARNING),
    ("agent", node(checkup=None, agent_error="gone"), "agent of node node1: gone", Severity.ERROR),
    ("agent", node(checkup=replace(CHECKUP, version="1")), "is of release 1", Severity.WARNING),
    ("agent", node(checkup=replace(CHECKUP, unwritable=("/x: full",))), "cannot write /x: full", Severity.ERROR),
    ("agent", node(checkup=replace(CHECKUP, engine_root="/other")), "takes /other for the", Severity.WARNING),
    ("kernel", node(checkup=replace(CHECKUP, missing=("veth",))), "has no veth", Severity.ERROR),
    ("kernel", node(checkup=replace(CHECKUP, missing_programs=("udhcpc",))), "has no udhcpc", Severity.WARNING),
    ("kernel", node(checkup=replace(CHECKUP, raw_frames_guarded=False)), "no egress hook", Severity.WARNING),
    (
        "kernel",
        node(checkup=replace(CHECKUP, bridge_filtered=True, forward_dropped=True)),
        "br_netfilter",
        Severity.WARNING,
    ),
    ("cgroups", node(info=replace(INFO, cgroup_version=1)), "cgroup v1", Severity.WARNING),
    ("clocks", node(engine_skew_s=5.0), "5 s ahead", Severity.WARNING),
    ("clocks", node(agent_skew_s=-900.0), "900 s behind", Severity.ERROR),
    ("leftovers", node(containers=(OURS,), networks=(VmId(7),)), "container one-7", Severity.WARNING),
    ("leftovers", node(networks=(VmId(8), VmId(42))), "namespace one-8", Severity.WARNING),
    ("space", facts_with(journal_disk=Disk(100, 5)), "the journal is nearly full", Severity.WARNING),
    ("space", node(usage=replace(USAGE, disk_free_bytes=1)), "the engine of node node1 is full", Severity.ERROR),
    ("space", node(checkup=replace(CHECKUP, disk_free_bytes=0)), "the agent of node node1 is full", Severity.ERROR),
)


def found(facts: Facts) -> dict[str, list[Finding]]:
    return {name: list(check(facts)) for name, check in ALL.items()}


def test_sound_facts_have_no_findings() -> None:
    assert not any(found(SOUND).values())


@pytest.mark.parametrize(("name", "change", "cause", "severity"), TABLE)
def test_a_fault_is_the_only_finding_of_its_check(
    name: str, change: Callable[[Facts], Facts], cause: str, severity: Severity
) -> None:
    findings = found(change(SOUND))
    (finding,) = findings.pop(name)
    assert cause in finding.cause
    assert finding.severity is severity
    assert finding.remedy
    assert "\n" not in finding.cause
    assert not any(findings.values()), findings


def test_every_check_is_in_the_table() -> None:
    assert {name for name, *_ in TABLE} == ALL.keys()


def test_only_a_namespace_without_container_is_mended_by_itself() -> None:
    (container,) = ALL["leftovers"](node(containers=(OURS,), networks=(VmId(7),))(SOUND))
    assert container.fix is None
    (namespace,) = ALL["leftovers"](node(networks=(VmId(8),))(SOUND))
    assert namespace.fix == RemoveNetwork(NODE, VmId(8))


def test_without_oned_nothing_is_called_a_leftover() -> None:
    facts = replace(node(containers=(OURS,), networks=(VmId(8),))(SOUND), oned_error="away", vms=frozenset())
    assert not list(ALL["leftovers"](facts))


def test_the_report_fits_into_80_columns() -> None:
    results = found(replace(SOUND, oned_error="oned does not answer at http://one.example.org:2633/RPC2: refused"))
    console = Console(width=80, file=io.StringIO(), record=True, highlight=False)
    console.print(report(results, ["removed namespace one-8 on node node1"]))
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text.startswith("✘ oned: error: oned does not answer")
    assert "mend: check opennebula.endpoint" in text
    assert "✔ fine: controller" in text


def test_findings_are_data_for_programs() -> None:
    results = found(node(networks=(VmId(8),))(SOUND))
    data = json.loads(json.dumps(as_data(results, [])))
    assert [(f["check"], f["severity"], f["fixable"]) for f in data["findings"]] == [("leftovers", "warning", True)]


@pytest.mark.parametrize(
    ("chains", "drops"),
    [
        ('{"nftables":[{"chain":{"family":"ip","hook":"forward","policy":"drop"}}]}', True),
        ('{"nftables":[{"chain":{"family":"ip","hook":"forward","policy":"accept"}}]}', False),
        ('{"nftables":[{"chain":{"family":"ip6","hook":"forward","policy":"drop"}}]}', False),
        ('{"nftables":[{"metainfo":{}},{"chain":{"family":"ip","name":"DOCKER"}}]}', False),
        ("", False),
        ("[]", False),
        ('{"nftables":[{"chain":7}]}', False),
    ],
)
def test_a_forward_chain_that_drops_is_seen(chains: str, drops: bool) -> None:
    assert drops_forwarded(chains) is drops
