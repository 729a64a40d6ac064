"""The lab's commands make the calls that OpenNebula's own were recorded making, and print tables of 80 columns."""

import contextlib
import json
import os
import shlex
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

import pytest
from tests.support.recording import FIXTURES

from onedock.lab.one_cli import COMMANDS, link_commands

FILES = {
    "onedatastore create onedock.ds": "onedock.ds",
    "oneimage create -d onedock2 ubuntu-docker.tmpl": "ubuntu-docker.tmpl",
    "onevnet create docker-private.net": "docker-private.net",
}


@dataclass
class Typed:
    """A recorded command: what was typed and the calls it made."""

    number: int
    command: str
    calls: list[dict[str, Any]] = field(default_factory=list)


def recorded() -> list[Typed]:
    typed: list[Typed] = []
    for line in (FIXTURES / "cli.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "step" in record:
            typed.append(Typed(len(typed), record["step"]))
        else:
            typed[-1].calls.append(record)
    return typed


class Handler(SimpleXMLRPCRequestHandler):
    rpc_paths = ("/RPC2",)

    def log_message(self, *arguments: object) -> None:
        """Says nothing on standard error."""


class RecordedServer:
    """Answers with the recorded answers, in their order, and writes down what it was asked."""

    def __init__(self) -> None:
        self.answers: list[list[Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.sessions: set[str] = set()
        self._server = SimpleXMLRPCServer(("127.0.0.1", 0), Handler, logRequests=False)
        self._server.register_instance(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/RPC2"

    def _dispatch(self, method: str, parameters: tuple[Any, ...]) -> list[Any]:
        self.sessions.add(parameters[0])
        self.asked.append({"method": method, "args": list(parameters[1:])})
        return self.answers.pop(0)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass
class Terminal:
    """Runs commands as a user with 80 columns."""

    server: RecordedServer
    directory: Path

    def run(self, command: str, *answers: list[Any]) -> subprocess.CompletedProcess[str]:
        self.server.answers, self.server.asked = list(answers), []
        name, *arguments = shlex.split(command)
        environment = {
            "ONE_XMLRPC": self.server.endpoint,
            "ONE_AUTH": str(self.directory / "one_auth"),
            "PATH": os.environ["PATH"],
            "COLUMNS": "80",
        }
        return subprocess.run(
            [self.directory / "bin" / name, *arguments],
            env=environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    link_commands(tmp_path / "bin")
    (tmp_path / "one_auth").write_text("oneadmin:secret\n")
    with contextlib.closing(RecordedServer()) as server:
        yield Terminal(server, tmp_path)


@pytest.mark.parametrize("typed", recorded(), ids=lambda typed: f"{typed.number} {typed.command}")
def test_walkthrough_makes_the_recorded_calls(typed: Typed, terminal: Terminal) -> None:
    if typed.command in FILES:
        template = next(call["args"][0] for call in typed.calls if call["method"].endswith(".allocate"))
        (terminal.directory / FILES[typed.command]).write_text(template)
    result = terminal.run(typed.command, *(call["response"] for call in typed.calls))
    wanted = [{"method": call["method"], "args": call["args"]} for call in typed.calls]
    assert terminal.server.asked == wanted, result.stderr
    assert all(len(line) <= 80 for line in result.stdout.splitlines()) or " show " in typed.command, result.stdout
    if wanted:
        assert terminal.server.sessions == {"oneadmin:secret"}
    refused = [call["response"][1] for call in typed.calls if call["response"][0] is False]
    if refused:
        assert (result.returncode, result.stderr.strip()) == (255, refused[0])
    elif wanted:
        assert result.returncode == 0
        created = [call["response"][1] for call in typed.calls if call["method"].endswith(".allocate")]
        assert not created or result.stdout == f"ID: {created[0]}\n"
    else:
        assert result.returncode == 2


@pytest.mark.parametrize(
    ("command", "method", "arguments"),
    [
        ("onevm poweroff 3", "one.vm.action", ["poweroff", 3]),
        ("onevm poweroff --hard 3", "one.vm.action", ["poweroff-hard", 3]),
        ("onevm terminate --hard 3", "one.vm.action", ["terminate-hard", 3]),
        ("onevm resume 3", "one.vm.action", ["resume", 3]),
        ("onevm reboot --hard 3", "one.vm.action", ["reboot-hard", 3]),
        ("onevm recover --retry 3", "one.vm.recover", [3, 2]),
        ("onevm recover --delete 3", "one.vm.recover", [3, 3]),
        ("onevm recover --failure 3", "one.vm.recover", [3, 0]),
        ("onevm nic-attach 3 --network 1", "one.vm.attachnic", [3, 'NIC=[NETWORK_ID="1"]']),
        (
            "onevm nic-attach 3 -n 1 --ip 10.0.0.7 --alias NIC0",
            "one.vm.attachnic",
            [3, 'NIC_ALIAS=[PARENT="NIC0", NETWORK_ID="1", IP="10.0.0.7"]'],
        ),
        ("onevm nic-attach 3 --file some.tmpl", "one.vm.attachnic", [3, "A=B\n"]),
        ("onevm nic-detach 3 1", "one.vm.detachnic", [3, 1]),
        ("onevm nic-update 3 1 some.tmpl", "one.vm.updatenic", [3, 1, "A=B\n", 0]),
        ("onevm nic-update 3 1 some.tmpl --append", "one.vm.updatenic", [3, 1, "A=B\n", 1]),
        ("onevm sg-attach 3 1 100", "one.vm.attachsg", [3, 1, 100]),
        ("onevm sg-detach 3 1 100", "one.vm.detachsg", [3, 1, 100]),
        ("onesecgroup create some.tmpl", "one.secgroup.allocate", ["A=B\n"]),
        ("onesecgroup clone 100 copy", "one.secgroup.clone", [100, "copy"]),
        ("onesecgroup update 100 some.tmpl", "one.secgroup.update", [100, "A=B\n", 0]),
        ("onesecgroup commit 100", "one.secgroup.commit", [100, False]),
        ("onesecgroup commit -r 100", "one.secgroup.commit", [100, True]),
        ("onesecgroup delete 100", "one.secgroup.delete", [100]),
        ("onevnet update 1 some.tmpl", "one.vn.update", [1, "A=B\n", 0]),
        ("onehost delete 1", "one.host.delete", [1]),
        ("oneimage delete 1", "one.image.delete", [1, False]),
    ],
)
def test_daily_commands(terminal: Terminal, command: str, method: str, arguments: list[Any]) -> None:
    (terminal.directory / "some.tmpl").write_text("A=B\n")
    result = terminal.run(command, [True, 3, 0])
    assert result.returncode == 0, result.stderr
    assert terminal.server.asked == [{"method": method, "args": arguments}]


def test_vm_by_name_with_all_options(terminal: Terminal) -> None:
    command = "onevm create --name 'a \"b\"' --cpu 0.5 --vcpu 2 --memory 64 --disk 3 --disk data --nic 0"
    assert terminal.run(command, [True, 7, 0]).stdout == "ID: 7\n"
    text = 'NAME="a \\"b\\""\nCPU=0.5\nVCPU=2\nMEMORY=64\nDISK=[\n  IMAGE_ID="3"\n]\nDISK=[\n  IMAGE="data"\n]\n'
    wanted = text + 'NIC=[\n  NETWORK_ID="0"\n]\n'
    assert terminal.server.asked[0]["args"] == [wanted, False]
    pool = "<VM_POOL><VM><ID>7</ID><NAME>web</NAME></VM></VM_POOL>"
    assert terminal.run("onevm resume web", [True, pool, 0], [True, 7, 0]).returncode == 0
    missing = terminal.run("onevm resume other", [True, pool, 0])
    assert (missing.returncode, missing.stderr) == (255, "VM named other not found\n")


def test_security_groups_are_shown(terminal: Terminal) -> None:
    group = (
        "<SECURITY_GROUP><ID>100</ID><UNAME>oneadmin</UNAME><NAME>web</NAME><UPDATED_VMS><ID>1</ID><ID>2</ID>"
        "</UPDATED_VMS><ERROR_VMS><ID>3</ID></ERROR_VMS><TEMPLATE><RULE><RULE_TYPE>inbound</RULE_TYPE>"
        "<PROTOCOL>TCP</PROTOCOL><IP>10.0.0.0</IP><SIZE>256</SIZE><RANGE>22,80:90</RANGE></RULE></TEMPLATE>"
        "</SECURITY_GROUP>"
    )
    listed = terminal.run("onesecgroup list", [True, f"<SECURITY_GROUP_POOL>{group}</SECURITY_GROUP_POOL>", 0])
    assert listed.stdout.splitlines()[1].split() == ["100", "oneadmin", "web", "2", "0", "0", "1"]
    shown = terminal.run("onesecgroup show 100", [True, group, 0])
    assert "UPDATED VMS  : 1,2" in shown.stdout
    assert "Start: 10.0.0.0, Size: 256" in shown.stdout
    assert "provide a network" in terminal.run("onevm nic-attach 3").stderr


def test_nothing_chosen_and_nobody_there(terminal: Terminal) -> None:
    assert "choose one of" in terminal.run("onevm recover 3").stderr
    terminal.server.close()
    refused = terminal.run("onevm list")
    assert refused.returncode == 255
    assert "check ONE_XMLRPC" in refused.stderr


def test_every_command_is_linked(terminal: Terminal) -> None:
    for name in COMMANDS:
        assert "Usage" in terminal.run(f"{name} --help").stdout
