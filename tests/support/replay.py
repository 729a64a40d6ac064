"""Repeats the recorded operations on the embedded OpenNebula and notes what it did."""

import asyncio
import base64
import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.support.opennebula import EmbeddedOpenNebula
from tests.support.recording import Step, normalised
from tests.support.scripted import ScriptedDriver, ScriptedRemotes, decoded, im_decoded, monitor_line
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState

GUARD_SECONDS = 3.0
"""RSTIME has a resolution of a second: what has to come within the guard has two for sure."""

SETUP = (
    ("one.datastore.allocate", 'NAME="onedock"\nDS_MAD="onedock"\nTM_MAD="onedock"\nTYPE="IMAGE_DS"', -1),
    ("one.datastore.allocate", 'NAME="onedock-system"\nTM_MAD="onedock"\nTYPE="SYSTEM_DS"', -1),
    ("one.host.allocate", "node0", "onedock", "onedock", -1),
    ("one.host.allocate", "node1", "onedock", "onedock", -1),
)
"""What was there before the recording of calls began."""

INSIDE_GUARD = ("state push poweroff", "state push running", "poweroff pushed inside the 30 s guard is ignored")
"""Steps whose reports came too early and were ignored."""

REPEATED_UNTIL_ACCEPTED = "push every second until accepted"
"""The step that pushed the same report again and again: here once inside the guard and once after it."""

_STABLE = (LcmState.RUNNING, LcmState.UNKNOWN, LcmState.BOOT_FAILURE)


@dataclass(slots=True)
class Done:
    """What the embedded OpenNebula did in one step; everything normalised."""

    vmm: list[tuple[str, str]] = field(default_factory=list)
    scripts: list[dict[str, Any]] = field(default_factory=list)
    im: list[tuple[str, str]] = field(default_factory=list)
    answers: list[list[Any]] = field(default_factory=list)


class Replay:
    """One run through all steps."""

    def __init__(self, directory: Path) -> None:
        self._vmm = ScriptedDriver.make(directory / "vmm")
        self._im = ScriptedDriver.make(directory / "im")
        self._remotes = ScriptedRemotes.make(directory / "remotes")
        self._seen = [0, 0, 0]
        self._var = directory / "one"
        self._one = EmbeddedOpenNebula(
            self._var,
            vmm=self._vmm.command,
            im=self._im.command,
            remotes=self._remotes.directory,
            options=["--no-scheduler", "--hostname", "vm", "--guard", str(GUARD_SECONDS)],
        )

    async def run(self, steps: list[Step], expected: dict[str, list[int]]) -> dict[str, Done]:
        """Label → what happened, for all steps.

        Args:
            steps: The recording.
            expected: Label → number of VMM requests, script runs and monitord lines to wait for.
        """
        done: dict[str, Done] = {}
        async with self._one:
            for step in steps:
                done[step.label] = await self._step(step, expected[step.label])
        return done

    async def _step(self, step: Step, expected: list[int]) -> Done:
        self._prepare_answers(step)
        result = Done()
        calls = [(record["method"], *record["args"]) for record in step.xmlrpc]
        pushes_after = 0
        if step.number == 0:
            for method, *arguments in SETUP:
                made = await self._one.call(method, *arguments)
                if method == "one.datastore.allocate":
                    await self._wait_for_space(made)
        for position, call in enumerate(calls, 1):
            if call[0] == "one.host.allocate":
                pushes_after = position
        for method, *arguments in calls[:pushes_after]:
            result.answers.append(await self._call(method, arguments))
        await self._push(step)
        for method, *arguments in calls[pushes_after:]:
            result.answers.append(await self._call(method, arguments))
        await self._collect(result, expected)
        return result

    async def _wait_for_space(self, datastore: int) -> None:
        async def known() -> bool:
            return (await self._one.document("one.datastore.info", datastore)).findtext("TOTAL_MB") != "0"

        await eventually(known, what=f"datastore {datastore} was monitored")

    def _prepare_answers(self, step: Step) -> None:
        request = ""
        answers: dict[str, list[str]] = {}
        for record in step.vmm:
            if record["from"] == "oned":
                request = record["head"].split()[0]
                answers[request] = []
            elif request and request != "INIT":
                answers[request].append(record["head"])
        for kind, lines in answers.items():
            self._vmm.answer(kind, *lines)

    async def _push(self, step: Step) -> None:
        records = [record for record in step.im if record["from"] == "driver" and "payload" in record]
        if step.name == REPEATED_UNTIL_ACCEPTED:
            records = [records[0], records[-1]]
        for position, record in enumerate(records):
            kind, result, host, _ = record["head"].split()
            too_early = step.name in INSIDE_GUARD or (step.name == REPEATED_UNTIL_ACCEPTED and position == 0)
            synchronises = "SYNC_STATE" in record["payload"]
            if kind == "STATE_VM" and not too_early and not synchronises:
                await self._outlast_guard()
            before = self._monitor_marks()
            self._im.say(monitor_line(kind, int(host), record["payload"], result=result))
            await self._wait_until_taken(kind, host, before, too_early)

    async def _outlast_guard(self) -> None:
        pool = await self._one.document("one.vmpool.info", -2, -1, -1, -1)
        vms = [await self._one.vm(int(vm.findtext("ID", ""))) for vm in pool]
        last = max(int(mark.text or 0) for vm in vms for name in ("RSTIME", "RETIME") for mark in vm.iter(name))
        # The passing of time is what is tested.
        await asyncio.sleep(max(0.0, last + GUARD_SECONDS + 0.1 - time.time()))

    def _monitor_marks(self) -> str:
        logs = self._var / "log"
        return "".join(path.read_text() for path in sorted(logs.glob("[0-9]*.log")))

    async def _wait_until_taken(self, kind: str, host: str, before: str, too_early: bool) -> None:
        async def taken() -> bool:
            document = await self._one.document("one.host.info", int(host))
            if kind == "SYSTEM_HOST":
                return document.findtext("STATE") == "2"
            if kind == "MONITOR_HOST":
                return document.find("MONITORING/CAPACITY") is not None
            if kind == "MONITOR_VM":
                return "<CPU>" in await self._one.call("one.vm.monitoring", 0)
            return self._monitor_marks() != before

        if kind != "BEACON_HOST":
            within = 0.5 if kind == "STATE_VM" and not too_early else 10.0
            try:
                await eventually(taken, within=within, what=f"{kind} is taken")
            except AssertionError:
                if kind != "STATE_VM":
                    raise

    async def _call(self, method: str, arguments: list[Any]) -> list[Any]:
        answer = await self._one.raw_call(method, *arguments)
        if answer[0] is True and method.startswith(("one.vm.", "one.template.instantiate")):
            await self._settle_vms()
        if answer[0] is True and method.startswith("one.image."):
            await self._settle_images()
        return [normalised(part, str(self._var)) if isinstance(part, str) else part for part in answer]

    async def _settle_vms(self) -> None:
        async def settled() -> bool:
            for vm in (await self._one.document("one.vmpool.info", -2, -1, -1, -1)).iter("VM"):
                state, lcm = VmState(int(vm.findtext("STATE", "0"))), LcmState(int(vm.findtext("LCM_STATE", "0")))
                assert state is not VmState.ACTIVE or lcm in _STABLE, f"VM {vm.findtext('ID')}: {lcm.name}"
            return True

        await eventually(settled, what="no VM is between two states")

    async def _settle_images(self) -> None:
        async def settled() -> bool:
            pool = await self._one.document("one.imagepool.info", -2, -1, -1)
            return all(image.findtext("STATE") not in ("4", "7") for image in pool.iter("IMAGE"))

        await eventually(settled, what="no image is locked")

    async def _collect(self, result: Done, expected: list[int]) -> None:
        def counts() -> list[int]:
            now = [len(self._vmm.lines()), len(self._remotes.runs()), len(self._im.lines())]
            return [count - seen for count, seen in zip(now, self._seen, strict=True)]

        with contextlib.suppress(AssertionError):  # the comparison shows what is missing
            await eventually(
                lambda: all(count >= wanted for count, wanted in zip(counts(), expected, strict=True)), within=10
            )
        var = str(self._var)
        for line in self._vmm.lines()[self._seen[0] :]:
            head, text = decoded(line)
            result.vmm.append((head, normalised(text, var)))
        for run in self._remotes.runs()[self._seen[1] :]:
            result.scripts.append(script_run(run, var))
        for line in self._im.lines()[self._seen[2] :]:
            head, text = im_decoded(line)
            result.im.append((head, normalised(text, var)))
        self._seen = [seen + count for seen, count in zip(self._seen, counts(), strict=True)]


def script_run(run: dict[str, Any], directory: str = "/var/lib/one") -> dict[str, Any]:
    """A script run in the form of the recording, normalised."""
    xml = base64.b64decode(run["stdin"]).decode() if run.get("stdin") else run.get("xml", "")
    return {
        "kind": run["kind"],
        "action": run["action"],
        "argv": [normalised(word, directory) for word in run["argv"]],
        "xml": normalised(xml, directory),
    }


def host_part(xml: str) -> str:
    """The HOST of a monitord document, and the names of its configuration without the drivers' own stanzas.

    Executables, ports and the drivers that happen to be registered belong to one installation.
    """
    root = ElementTree.fromstring(xml)
    host = root.find("HOST")
    configuration = root.find("MONITOR_CONFIGURATION")
    assert host is not None
    assert configuration is not None
    names = [f"{part.tag}/{child.tag}" for part in configuration if part.tag != "IM_MAD" for child in [part, *part]]
    return ElementTree.tostring(host, encoding="unicode") + " ".join(names)
