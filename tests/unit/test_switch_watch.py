"""Open vSwitch's database as its client tells of it: what makes a VM due, what does not, and a client that breaks."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.support.waiting import eventually

from onedock.nodeside.agent.healing import needs
from onedock.nodeside.agent.healing.switch import SwitchWatch
from onedock.nodeside.agent.ovs_rows import MONITORED, PortChange, parse_changes
from onedock.nodeside.heals import Cause
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import OvsPort, Switch

VM, OTHER = VmId(260), VmId(261)
NIC = Nic(0, "eth0", "one-260-0", "02:00:00:00:00:07", "ovsbr0", switch=Switch.OPENVSWITCH, ovs=OvsPort(10))
SECOND = replace(NIC, host_name="one-261-0", ovs=OvsPort(11))
EMPTY: list[Any] = ["set", []]
NAMELESS = ["uuid-of-row", "old", None, 10, None, None, None, None, None]


def row(action: str, *, name: str = "one-260-0", tag: Any = 10, trunks: Any = EMPTY, vm: int = 260) -> list[Any]:
    marks = ["map", [["onedock-nic", "0"], ["onedock-vm", str(vm)], ["theirs", "x"]]]
    return ["" if action == "new" else "uuid-of-row", action, name, tag, trunks, EMPTY, "access", ["map", []], marks]


def line(*rows: list[Any]) -> bytes:
    return json.dumps({"data": rows, "headings": ["row", "action", *MONITORED]}).encode() + b"\n"


def test_rows_as_the_client_tells_them() -> None:
    [changed] = parse_changes(line(NAMELESS, row("new", tag=12, trunks=["set", [20, 21]])))
    assert changed.name == "one-260-0"
    assert changed.columns is not None
    assert changed.columns["tag"] == {"12"}
    assert changed.columns["trunks"] == {"20", "21"}
    assert parse_changes(line(row("delete"))) == (PortChange("one-260-0", None),)
    assert [one.name for one in parse_changes(line(row("initial"), row("insert", name="p1")))] == ["one-260-0", "p1"]
    assert parse_changes(line()) == ()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\n",
        b"2026-11-21 monitor begins\n",
        b"null",
        b"[]",
        b"{}",
        b'{"data":7,"headings":[]}',
        b'{"data":[7],"headings":["row"]}',
        b'{"data":[["x","insert"]],"headings":["row"]}',
        line(["uuid-of-row", "insert"]),
        line(row("exploded")),
        line([*row("insert")[:2], EMPTY, *row("insert")[3:]]),
        line([*row("insert")[:2], ["set", ["a", "b"]], *row("insert")[3:]]),
        line(row("insert", trunks=["set", [["map", [1]]]])),
        b'{"data":' + b"[" * 100_000,
        b"\xff\xfe\xfd",
        line(row("insert"))[:-9],
    ],
)
def test_what_is_broken_is_refused(said: bytes) -> None:
    with pytest.raises(TransientError, match="what ovsdb-client says is not understood"):
        parse_changes(said)


class Tool:
    """An ovsdb-client that says what is put into its files: one for each time that it is started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        tool = directory / "ovsdb-client"
        tool.write_text(
            "#!/bin/sh\n"
            f"cd {directory}; n=$(ls | grep -c '^pid'); echo $$ > pid.$n; echo \"$@\" > argv\n"
            "[ -e said.$n ] || { echo 'ovsdb-client: no answer' >&2; exit 1; }\n"
            "exec tail -n +1 -s 0.01 -f said.$n 2>/dev/null\n"
        )
        tool.chmod(0o755)

    def says(self, number: int, said: bytes) -> None:
        with (self.directory / f"said.{number}").open("ab") as file:
            file.write(said)

    def pid(self, number: int) -> int | None:
        file = self.directory / f"pid.{number}"
        return int(file.read_text() or 0) if file.exists() else None

    def ends(self, number: int) -> bool:
        pid = self.pid(number)
        return pid is not None and not Path(f"/proc/{pid}").exists()


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Tool(tmp_path)


Due = list[tuple[VmId, Cause, bool]]


@pytest.fixture
async def due() -> Due:
    return []


@pytest.fixture
async def watch(due: Due, tool: Tool) -> AsyncIterator[SwitchWatch]:
    made = SwitchWatch(lambda vm, cause, shared: due.append((vm, cause, shared)))
    yield made
    await made.close()


def depend(watch: SwitchWatch, vm: VmId, *nics: Nic) -> None:
    watch.depend(vm, needs.switch_ports(Network(vm, nics)))


async def test_only_what_is_not_as_wanted_makes_its_vm_due(watch: SwitchWatch, tool: Tool, due: Due) -> None:
    tool.says(0, line(row("initial"), row("initial", name="theirs", tag=1)))
    depend(watch, VM, NIC)
    depend(watch, OTHER, SECOND)
    tool.says(0, line(row("insert", name="one-261-0", tag=11, vm=261)))
    tool.says(0, line(NAMELESS, row("new", name="theirs", tag=7)))
    tool.says(0, line(NAMELESS, row("new", tag=99)))
    await eventually(lambda: due)
    assert due == [(VM, Cause.SWITCH, False)]
    tool.says(0, line(NAMELESS, row("new", tag=10)))
    tool.says(0, line(row("delete", name="one-261-0")))
    await eventually(lambda: len(due) > 1)
    assert due[1:] == [(OTHER, Cause.SWITCH, False)]
    assert (tool.directory / "argv").read_text().split()[:4] == ["--format=json", "monitor", "Open_vSwitch", "Port"]


async def test_a_port_that_is_made_anew_in_one_go_is_no_damage(watch: SwitchWatch, tool: Tool, due: Due) -> None:
    tool.says(0, line(row("initial")) + line(row("delete"), row("insert")) + line(row("delete", name="one-261-0")))
    depend(watch, VM, NIC)
    depend(watch, OTHER, SECOND)
    await eventually(lambda: due)
    assert due == [(OTHER, Cause.SWITCH, False)]


async def test_it_runs_as_long_as_somebody_needs_it(watch: SwitchWatch, tool: Tool, due: Due) -> None:
    tool.says(0, line(row("initial")))
    tool.says(1, line(row("initial", tag=5)))
    depend(watch, VM, replace(NIC, switch=Switch.LINUX, ovs=None))
    assert asyncio.all_tasks() == {asyncio.current_task()}
    depend(watch, VM, NIC)
    await eventually(lambda: tool.pid(0))
    depend(watch, OTHER, SECOND)
    depend(watch, VM)
    assert tool.pid(1) is None
    assert not tool.ends(0)
    depend(watch, OTHER)
    await eventually(lambda: tool.ends(0))
    depend(watch, VM, NIC)
    await eventually(lambda: due)
    await watch.close()
    assert tool.ends(1)


async def test_all_are_looked_at_after_it_was_away(watch: SwitchWatch, tool: Tool, due: Due) -> None:
    tool.says(0, line(row("initial", tag=5)))
    tool.says(1, line(row("initial")))
    depend(watch, VM, NIC)
    depend(watch, OTHER, SECOND)
    await eventually(lambda: due, what="it has been heard")
    due.clear()
    pid = tool.pid(0)
    assert pid is not None
    with capture_logs() as logs:
        os.kill(pid, 9)
        await eventually(lambda: len(due) > 1)
    assert due == [(VM, Cause.SWITCH, True), (OTHER, Cause.SWITCH, True)]
    assert [(one["event"], one["next_try_s"]) for one in logs] == [("Open vSwitch's database is not watched", 0.1)]


async def test_one_that_fails_is_tried_again_with_growing_pauses_and_told_once(
    watch: SwitchWatch, tool: Tool, due: Due
) -> None:
    tool.says(3, line(row("initial")))
    with capture_logs() as logs:
        depend(watch, VM, NIC)
        await eventually(lambda: due)
    assert due == [(VM, Cause.SWITCH, True)]
    assert [(one["error"], one["next_try_s"]) for one in logs] == [("ovsdb-client: no answer", 0.2)]


@pytest.mark.parametrize("said", [b"nonsense\n", b"{}\n", line(row("exploded"))])
async def test_one_that_talks_nonsense_is_ended(watch: SwitchWatch, tool: Tool, due: Due, said: bytes) -> None:
    tool.says(0, line(row("initial")) + said)
    tool.says(1, line(row("initial")))
    with capture_logs() as logs:
        depend(watch, VM, NIC)
        await eventually(lambda: due)
    assert due == [(VM, Cause.SWITCH, True)]
    assert tool.ends(0)
    assert "what ovsdb-client says is not understood" in logs[0]["error"]


async def test_it_may_be_missing(tmp_path: Path, due: Due, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    watch = SwitchWatch(lambda *told: due.append(told))
    with capture_logs() as logs:
        depend(watch, VM, NIC)
        await eventually(lambda: logs)
    assert logs[0]["error"] == "ovsdb-client is missing on this node; install openvswitch-switch"
    await watch.close()
