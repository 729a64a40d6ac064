"""Transfer manager commands: every recorded one is understood, and hostile ones are refused."""

import contextlib
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedock.controller.images import transfer
from onedock.controller.images.transfer import (
    Clone,
    Context,
    Delete,
    Location,
    Monitor,
    Move,
    MoveToDatastore,
    TmCommand,
    Unknown,
    Unsupported,
    parse_tm_command,
    parse_transfer,
)
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import NodeName, VmId

FIXTURES = Path(__file__).parents[1] / "fixtures"
DIRECTORY = "/var/lib/one/datastores/101/24000"


def at(host: str, name: str = "") -> Location:
    return Location(NodeName(host), f"{DIRECTORY}/{name}".rstrip("/"))


VM = VmId(24000)
ON_NODE1 = "node1:/var/lib/one//datastores/101/24000"
SOURCE = "docker://127.0.0.1:5000/onedock/image-1@sha256:" + "0" * 64

CASES: list[tuple[str, str, transfer.Transfer]] = [
    ("clone", f"{SOURCE} {ON_NODE1}/disk.0 24000 100", Clone(SOURCE, at("node1", "disk.0"), VM)),
    ("clone.ssh", f"{SOURCE} {ON_NODE1}/disk.0 24000 100", Clone(SOURCE, at("node1", "disk.0"), VM)),
    ("clone", f"vm:/var/x raw {ON_NODE1}/disk.3 24000 100", Clone("vm:/var/x raw", at("node1", "disk.3"), VM)),
    ("ln", f"{SOURCE} {ON_NODE1}/disk.0 24000 100", Clone(SOURCE, at("node1", "disk.0"), VM)),
    ("delete", f"{ON_NODE1}/disk.12 24000 100", Delete(at("node1", "disk.12"), VM)),
    ("delete", f"{ON_NODE1} 24000 101", Delete(at("node1"), VM)),
    ("mv", f"{ON_NODE1} vm:{DIRECTORY} 24000 101", Move(at("node1"), at("vm"), VM)),
    ("mvds", f"{ON_NODE1}/disk.0 {SOURCE} 24000 100", MoveToDatastore(VM)),
    ("context", f"/c.sh /f:n {ON_NODE1}/disk.2 24000 101", Context(VM)),
    ("cpds", f"{ON_NODE1}/disk.0 /x raw -1 24000 100", Unsupported("cpds", VM)),
    ("mkimage", f"16 raw {ON_NODE1}/disk.1 24000 101", Unsupported("mkimage", VM)),
    ("mkswap", f"16 {ON_NODE1}/disk.1 24000 101", Unsupported("mkswap", VM)),
    ("resize", f"{ON_NODE1}/disk.1 32 24000 101", Unsupported("resize", VM)),
    ("snap_create_live", f"{ON_NODE1}/disk.1 0 24000 1", Unsupported("snap_create_live", VM)),
    ("snap_revert", f"{ON_NODE1}/disk.1 3 24000 1", Unsupported("snap_revert", VM)),
    ("restore", f"{ON_NODE1} 24000 7 0 -1", Unsupported("restore", VM)),
    ("premigrate", "node1 node2 /var//lib/one 24000 101 template", Unsupported("premigrate", VM)),
    ("prebackup", f"{ON_NODE1} 0:2: one-24000 - 24000 101", Unsupported("prebackup", VM)),
    ("monitor", "101", Monitor()),
    ("fly", "to the moon", Unknown()),
]


@pytest.mark.parametrize(("action", "line", "expected"), CASES)
def test_command(action: str, line: str, expected: transfer.Transfer) -> None:
    assert parse_transfer(action, line.split()) == expected


def test_a_disk_is_told_from_the_directory() -> None:
    assert at("node1", "disk.12").disk_id == 12
    assert at("node1").disk_id is None
    assert at("node1", "disk.1.snap").disk_id is None


@pytest.mark.parametrize("action", ["clone", "ln", "delete", "mv"])
@pytest.mark.parametrize(
    "line", ["", "x", "24000 100", "host:relative 24000 100", ":/x 24000 100", f"{ON_NODE1} -1 100"]
)
def test_wrong_arguments_are_refused(action: str, line: str) -> None:
    with pytest.raises(TerminalError, match="unexpected arguments"):
        parse_transfer(action, line.split())


@pytest.mark.parametrize("action", ["mvds", "cpds", "context", "mkimage", "restore", "premigrate", "monitor"])
@pytest.mark.parametrize("line", ["", "x", f"{ON_NODE1} x -1 100", f"{ON_NODE1} x 24000 x"])
def test_arguments_without_the_ids_are_refused(action: str, line: str) -> None:
    with pytest.raises(TerminalError, match="unexpected arguments"):
        parse_transfer(action, line.split())


def test_lines_of_a_driver_message_keep_their_suffix() -> None:
    text = f"DELETE.ssh onedock {ON_NODE1}/disk.0 24000 100\n\n# comment\nDELETE local {ON_NODE1} 24000 101\n"
    assert parse_tm_command(text) == (
        TmCommand("delete.ssh", "onedock", (f"{ON_NODE1}/disk.0", "24000", "100")),
        TmCommand("delete", "local", (ON_NODE1, "24000", "101")),
    )


@pytest.mark.parametrize(
    "line",
    [
        "DELETE",
        "DELETE ../evil x 1 2",
        "../DELETE onedock x",
        "DELETE.ssh/../x onedock x",
        "DELETE;x onedock",
        "$(x) y",
    ],
)
def test_a_line_never_names_a_file_outside(line: str) -> None:
    with pytest.raises(TerminalError, match="not a transfer command"):
        parse_tm_command(line)


def records(name: str) -> Iterator[dict[str, Any]]:
    with (FIXTURES / name).open() as lines:
        yield from map(json.loads, lines)


def test_every_recorded_script_is_understood() -> None:
    seen = [record for record in records("scripts.jsonl") if record.get("kind") == "tm"]
    assert len(seen) > 40
    for record in seen:
        parsed = parse_transfer(record["action"], record["argv"])
        assert not isinstance(parsed, Unknown), record
        assert "//" not in repr(parsed).replace("docker://", "")


def test_every_recorded_tm_command_is_understood() -> None:
    seen = 0
    for record in records("vmm.jsonl"):
        for element in re.findall(r"<TM_COMMAND>.*?</TM_COMMAND>", record.get("xml") or "", re.DOTALL):
            for command in parse_tm_command(unescape(fromstring(element).text or "")):
                assert not isinstance(parse_transfer(command.action, command.argv), Unknown), command
                seen += 1
    assert seen > 10


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.sampled_from([*sorted(transfer._ACTIONS), "nonsense"]),
    st.lists(words | st.just(ON_NODE1) | st.just("7")),
)
def test_any_arguments_are_read_or_refused(action: str, argv: list[str]) -> None:
    with contextlib.suppress(TerminalError):
        parse_transfer(action, argv)


@given(words)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        commands = parse_tm_command(text)
    except TerminalError:
        return
    for command in commands:
        assert not set(command.action + command.tm) & set("/$;`")


@given(
    st.from_regex(r"[a-z0-9.:-]{1,20}", fullmatch=True),
    st.lists(st.from_regex(r"[a-z0-9.:]{1,8}", fullmatch=True), min_size=1),
    st.integers(1, 3),
)
def test_doubled_slashes_never_tell_two_places_apart(host: str, parts: list[str], slashes: int) -> None:
    once, doubled = f"{host}:/" + "/".join(parts), f"{host}:/" + ("/" * slashes).join(parts)
    move = parse_transfer("mv", [once, doubled, "1", "2"])
    assert isinstance(move, Move)
    assert move.source == move.target
