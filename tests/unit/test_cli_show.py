"""What the admin's command shows: right in 80 columns, whole where it is piped, the cause on the first line."""

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from onedock.cli.client import ApiError
from onedock.cli.intents import drop_consequence
from onedock.cli.log import parse_since
from onedock.cli.show import log_line, overview, tree, vm_heals
from onedock.cli.show_explain import cause_line, explanation, plans
from onedock.cli.show_intents import intent_table

NOW = 1_000_000.0
IMAGE = "registry.example.org:5000/onedock/image-7@sha256:" + "a" * 64
LONG = "engine of node node1: the engine cannot be reached: unix:///var/run/docker.sock: connection refused"
NIC = {
    "index": 0, "name": "eth0", "host_name": "one-42-0", "mac": "02:00:0a:4d:00:0a", "bridge": "br0",
    "addresses": ["10.77.0.10/24", "2001:db8::10/64"], "gateways": ["10.77.0.1"], "mtu": None, "phydev": None,
}  # fmt: skip
CONDITION = {"name": "Running", "ok": False, "reason": "Exited", "message": "it ended with exit code 137", "since": 0.0}
NODE_DOWN = {"name": "Engine", "ok": False, "reason": "NotUsable", "message": LONG, "since": NOW - 90}
SUMMARY = {
    "vm": 42, "name": "a-rather-long-name-of-a-web-server", "node": "node1.datacenter.example.org", "power": "running",
    "generation": 3, "phase": "running", "one_state": [3, 3], "addresses": ["10.77.0.10/24"], "busy": "DEPLOY",
    "error": LONG, "running": CONDITION,
}  # fmt: skip
DETAIL: dict[str, Any] = SUMMARY | {
    "spec": {
        "container": {"image": IMAGE, "cpu_quota_us": 50_000, "cpu_shares": 512, "memory_bytes": 1 << 26, "pids": 9},
        "network": {"nics": [NIC]},
    },
    "observed": None, "observed_at": NOW - 5, "conditions": [CONDITION],
    "intents": [{"id": 7, "action": "DEPLOY", "channel": "vmm", "received": NOW - 12}],
    "pull": {"done": 30 << 20, "total": 120 << 20}, "retry_in_s": 4.2, "guard_until": 0.0,
    "heals": {"count": 3, "latest": {
        "time": NOW - 300, "node": "node1", "cause": "link", "what": "plug in one-42-0 br0", "seconds": 0.21,
        "heal": [NOW - 900, 7],
    }},
}  # fmt: skip
HEALTH = {
    "version": "2", "last_resync": NOW - 3, "resync_error": "", "journal_error": "", "due": 1, "undelivered": 0,
    "drivers": {"vmm": True, "im": False},
    "nodes": [{
        "name": "node1.datacenter.example.org", "host_id": 0, "engine_version": "20.10.24", "warning": "",
        "engine": {"ok": False, "since": NOW - 90, "error": LONG}, "agent": {"ok": True, "since": 0.0, "error": ""},
        "listed_at": NOW - 4, "conditions": [NODE_DOWN],
        "pulls": [{"image": IMAGE, "done": 30 << 20, "total": 120 << 20}],
        "heals": {"count": 12, "causes": {"link": 12}, "latest": {"vm": 42, "time": NOW - 300}},
    }],
}  # fmt: skip
REGISTRY = {"address": "registry.example.org:5000", "error": "registry.example.org:5000 refuses connections"}
ROW = {
    "id": 7, "channel": "vmm", "action": "DEPLOY", "vm": 42, "node": "node1", "received": NOW - 60, "state": "done",
    "ok": False, "info": 'the command "/no/such/program" is not in the image', "concluded": NOW - 50, "settled": None,
    "fate": None, "changes": [],
}  # fmt: skip
EXPLANATION = {
    "vm": 42, "name": "web", "cause": {"text": LONG, "blocking": True}, "node": "node1", "conditions": [NODE_DOWN],
    "one": {"state": "ACTIVE", "lcm_state": "BOOT", "error": "Error deploying"}, "fresh": False,
    "fields": [
        {"field": "power", "desired": "running", "observed": "no container", "same": False},
        {"field": "eth0", "desired": "02:00:0a:4d:00:0a 10.77.0.10/24 on br0", "observed": "as wanted", "same": True},
        {"field": "image", "desired": IMAGE, "observed": "not in the engine", "same": False},
    ],
    "observed_at": NOW - 40, "in_progress": "DEPLOY (request 7) for 12 s", "last": ROW, "error": LONG,
    "plan": [f"pull {IMAGE}", "start the container"], "plan_error": "", "retry_in_s": 4.2,
}  # fmt: skip
PLANS = [
    {"vm": 42, "name": "web", "node": "node1", "actions": [f"pull {IMAGE}"], "error": ""},
    {"vm": 43, "name": "db", "node": "node1", "actions": [], "error": LONG},
]


def shown(renderable: RenderableType, *, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, highlight=False)
    console.print(renderable)
    return console.export_text()


VIEWS: dict[str, tuple[RenderableType, tuple[str, ...]]] = {
    "overview": (
        overview([SUMMARY], HEALTH, REGISTRY, NOW),
        (
            "42",
            "registry.example.org:5000 down",
            "running (deploy)",
            "10.77.0.10",
            "im gone",
            "25 %",
            "HEALED",
            "12, 5m ago",
        ),
    ),
    "no VMs": (overview([], HEALTH | {"nodes": []}, REGISTRY, NOW), ("no VMs",)),
    "tree": (
        tree(DETAIL, NOW),
        (
            "eth0",
            "25 % (30 of 120 MB)",
            "next in 4s",
            "Running: Exited",
            "DEPLOY (request 7)",
            "network healed 3 times",
        ),
    ),
    "explanation": (
        explanation(EXPLANATION, NOW),
        ("FIELD", "≠ power", "= eth0", "OBSERVED 40s ago", "failed: the command", "1. pull", "next pass in 4 s"),
    ),
    "plans": (plans(PLANS), ("VM 42 web", "1. pull", "VM 43 db")),
    "no plans": (plans([]), ("nothing to do",)),
    "intents": (intent_table([ROW, ROW | {"ok": None, "state": "open"}], NOW), ("DEPLOY", "failed", "open", "1m")),
    "no intents": (intent_table([], NOW), ("no requests",)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_fits_into_80_columns_and_says_what_matters(name: str) -> None:
    view, words = VIEWS[name]
    text = shown(view)
    assert all(len(line) <= 80 for line in text.splitlines()), text
    flat = " ".join(text.split())
    for word in words:
        assert word in flat, text


@pytest.mark.parametrize("name", VIEWS)
def test_a_piped_view_is_plain_and_breaks_no_sentence(name: str) -> None:
    text = shown(VIEWS[name][0], width=10_000)
    assert "\x1b" not in text
    if name in {"overview", "tree", "explanation", "plans"}:
        assert LONG in text


def test_the_first_line_of_an_explanation_is_the_cause() -> None:
    assert shown(cause_line(EXPLANATION), width=10_000).splitlines()[0] == f"VM 42: {LONG}"


def test_a_line_of_the_log_tells_time_vm_sentence_and_facts() -> None:
    line: dict[str, Any] = {"vm": 42, "time": 0.5, "level": "warning", "event": "request is dropped by hand"}
    text = shown(log_line(line | {"fields": {"user": "root", "reconcile_id": "x", "heal": [1.5, 2]}}), width=200)
    assert text.strip() == "1970-01-01 00:00:00.500Z VM 42 request is dropped by hand  user=root"


def test_heals_are_told_with_cause_and_time() -> None:
    often = DETAIL["heals"]
    once = {"count": 1, "latest": often["latest"]}
    told = "5m ago within 0.21 s because of link: plug in one-42-0 br0"
    assert vm_heals(once, NOW) == f"network healed once {told}"
    assert vm_heals(often, NOW) == f"network healed 3 times, last {told}"
    assert vm_heals({"count": 0, "latest": None}, NOW) == ""


@pytest.mark.parametrize(
    ("text", "wanted"), [("90s", NOW - 90), ("2h", NOW - 7200), ("3d", NOW - 259_200), ("1970-01-01T00:00:10Z", 10.0)]
)
def test_since_is_an_age_or_a_time(text: str, wanted: float) -> None:
    assert parse_since(text, NOW) == wanted


@pytest.mark.parametrize("text", ["yesterday", "5", "5 m", "-3h", ""])
def test_a_since_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="is no time"):
        parse_since(text, NOW)


@pytest.mark.parametrize("action", ["DEPLOY", "SHUTDOWN", "REBOOT", "clone", "SNAPSHOTCREATE"])
def test_dropping_has_its_consequence_said(action: str) -> None:
    assert drop_consequence(ROW | {"action": action}).startswith("If it is dropped: ")
