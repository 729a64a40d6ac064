"""The documented metrics, the board and the alert rules name what the controller has, and nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from onedock.controller.metrics import PHASES, Metrics
from onedock.reconcilers.measures import VmUsage
from onedock.reconcilers.model import VmId

DOCS = Path(__file__).parents[2] / "docs"
NAME = re.compile(r"\bonedock_[a-z_]+\b")


def exported() -> dict[str, str]:
    """Names of all samples that the controller may export, with their family's type."""
    metrics = Metrics()
    metrics.usage.note([VmUsage(VmId(42))])
    names: dict[str, str] = {}
    for family in metrics.registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}[family.type]
        names |= {f"{family.name}{suffix}": family.type for suffix in suffixes}
    return names


def board_expressions() -> list[str]:
    board = json.loads((DOCS / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DOCS / "prometheus-alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_board_uses_metrics_that_exist() -> None:
    used = {name for expression in board_expressions() for name in NAME.findall(expression)}
    assert used
    assert used <= exported().keys()


def test_the_panels_of_the_board_do_not_overlap() -> None:
    board = json.loads((DOCS / "grafana-dashboard.json").read_text())
    corners = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(corners)) == len(corners)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_uses_metrics_that_exist_and_says_what_to_do(rule: dict[str, Any]) -> None:
    used = set(NAME.findall(rule["expr"]))
    assert used
    assert used <= exported().keys()
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["action"]


def test_the_page_explains_every_metric() -> None:
    documented = set(re.findall(r"^\| `(onedock_[a-z_]+)`", (DOCS / "monitoring.md").read_text(), re.MULTILINE))
    wanted = {name.removesuffix("_bucket") for name in exported() if not name.endswith(("_sum", "_count"))}
    assert documented == wanted


def test_every_phase_of_a_deploy_is_documented() -> None:
    text = (DOCS / "monitoring.md").read_text()
    assert all(f"`{phase}`" in text for phase in (*PHASES.values(), "wait", "transfer"))


def test_counters_of_vms_vanish_with_them() -> None:
    metrics = Metrics()
    metrics.usage.note([VmUsage(VmId(1), cpu_ns=2_500_000_000), VmUsage(VmId(2))])
    assert metrics.registry.get_sample_value("onedock_vm_cpu_seconds_total", {"vm": "1"}) == 2.5
    metrics.usage.keep([VmId(2)])
    assert metrics.registry.get_sample_value("onedock_vm_cpu_seconds_total", {"vm": "1"}) is None
    assert metrics.registry.get_sample_value("onedock_vm_cpu_seconds_total", {"vm": "2"}) == 0.0
