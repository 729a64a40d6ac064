"""The embedded OpenNebula does what the real one was recorded doing: every step, in the recorded order.

The drivers and scripts are scripted to give the recorded answers. Compared are the requests on the VMM pipe, the runs
of scripts, the lines of monitord and the answers of XML-RPC calls, each byte for byte after times, UUIDs, request
numbers and the place of VAR are made equal. What is not compared is listed below with its reason.
"""

import asyncio
import re
from typing import Any

import pytest
from tests.support import recording
from tests.support.recording import Step, normalised
from tests.support.replay import Done, Replay, host_part, script_run

STEPS = recording.load()

PERIODIC_DATASTORE_MONITORING = ("image persistent OS", "running pushed for suspended VM")
"""Steps in which the 300 s timer of datastore monitoring happened to fire: one run per datastore, at their end."""

MONITORING_STARTED_AGAIN = (
    "push every second until accepted",
    "running pushed for powered-off VM, 31 s later",
    "poweroff accepted",
    "terminate",
)
"""Steps in which 180 s of silence of a host were over; the replay is faster. Shown by test_embedded_opennebula."""


NOT_COMPARED = ("one.system.config",)
"""The configuration of the recorded installation: of another one here, and only what ONEDock asks for."""

STOCK_SPACE = re.compile(r"<(TOTAL|FREE|USED)_MB>(258020|77170|26729|0)</")
"""Space of the three stock datastores: that of the recording machine's disk."""


def expected_scripts(step: Step) -> list[dict[str, Any]]:
    """Recorded script runs without those of the timer."""
    runs = [script_run(run) for run in step.scripts]
    return runs[:-2] if step.name in PERIODIC_DATASTORE_MONITORING else runs


def expected_vmm(step: Step) -> list[tuple[str, str]]:
    """Recorded requests of oned."""
    records = [record for record in step.vmm if record["from"] == "oned" and record["head"] != "INIT"]
    return [(record["head"], normalised(record.get("xml") or "")) for record in records]


def expected_im(step: Step) -> list[tuple[str, str]]:
    """Recorded requests of monitord without those that silence caused."""
    if step.name in MONITORING_STARTED_AGAIN:
        return []
    records = [record for record in step.im if record["from"] == "monitord" and record["head"] != "INIT"]
    return [(record["head"], normalised(record["payload"])) for record in records]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What the embedded OpenNebula did, step by step."""
    counts = {s.label: [len(expected_vmm(s)), len(expected_scripts(s)), len(expected_im(s))] for s in STEPS}
    return asyncio.run(Replay(tmp_path_factory.mktemp("replay")).run(STEPS, counts))


def of_kind(runs: list[dict[str, Any]], *, transfer: bool) -> list[dict[str, Any]]:
    """Runs of one_tm or of one_datastore: two drivers, so their order against each other is a race."""
    return [run for run in runs if (run["kind"] == "tm" and run["action"] != "monitor") == transfer]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.label)
def test_requests_to_the_vmm_driver(step: Step, done: dict[str, Done]) -> None:
    assert done[step.label].vmm == expected_vmm(step)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.label)
def test_runs_of_scripts(step: Step, done: dict[str, Done]) -> None:
    for transfer in (True, False):
        assert of_kind(done[step.label].scripts, transfer=transfer) == of_kind(
            expected_scripts(step), transfer=transfer
        )


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.label)
def test_lines_of_monitord(step: Step, done: dict[str, Done]) -> None:
    made = [(head, host_part(xml)) for head, xml in done[step.label].im]
    assert made == [(head, host_part(xml)) for head, xml in expected_im(step)]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.label)
def test_answers_of_calls(step: Step, done: dict[str, Done]) -> None:
    made = done[step.label].answers
    for record, answer in zip(step.xmlrpc, made, strict=True):
        if record["method"] in NOT_COMPARED:
            continue
        expected = [normalised(part) if isinstance(part, str) else part for part in record["response"]]
        if record["method"] == "one.datastorepool.info":
            answer, expected = ([STOCK_SPACE.sub("<", part[1])] for part in (answer, expected))
        assert answer == expected, record["method"]
