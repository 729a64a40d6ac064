"""Drivers and scripts that answer as a test tells them and write down what they were asked."""

import base64
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import scripted_driver

TM_ACTIONS = (
    "clone",
    "ln",
    "mkimage",
    "mkswap",
    "mv",
    "mvds",
    "cpds",
    "delete",
    "resize",
    "snap_create",
    "snap_revert",
    "snap_delete",
    "monitor",
    "context",
    "premigrate",
    "postmigrate",
    "failmigrate",
)
DATASTORE_ACTIONS = ("cp", "mkfs", "stat", "rm", "clone", "monitor")
SPACE = "TOTAL_MB=100000\nFREE_MB=99900\nUSED_MB=100\n"
ANSWERS = {
    "datastore.stat": "64\n",
    "datastore.cp": "127.0.0.1:5000/one/image-1 raw\n",
    "datastore.mkfs": "/var/x raw\n",
    "datastore.clone": "127.0.0.1:5000/one/image-9 raw\n",
    "datastore.monitor": SPACE,
    "tm.monitor": SPACE,
}

_SCRIPT = """#!{python} -IS
import json, os, sys
directory, kind, action = {directory!r}, {kind!r}, {action!r}
data = "" if sys.stdin.isatty() else sys.stdin.read()
run = json.dumps({{"kind": kind, "action": action, "argv": sys.argv[1:], "stdin": data}}) + "\\n"
descriptor = os.open(directory + "/runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(descriptor, run.encode())
answer = directory + "/answers/" + kind + "." + action
if os.path.exists(answer):
    with open(answer) as file:
        told = json.load(file)
    sys.stdout.write(told["stdout"])
    sys.stderr.write(told["stderr"])
    sys.exit(told["code"])
"""


@dataclass(frozen=True, slots=True)
class ScriptedDriver:
    """A VMM or IM driver that answers from files; see ``scripted_driver``."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> "ScriptedDriver":
        """Puts the executable into a new directory."""
        (directory / "answers").mkdir(parents=True)
        executable = directory / "driver"
        executable.write_text(f"#!{sys.executable} -IS\n{Path(scripted_driver.__file__).read_text()}")
        executable.chmod(0o755)
        return cls(directory)

    @property
    def command(self) -> str:
        """Executable and arguments, as an OpenNebula is started with them."""
        return f"{self.directory}/driver {self.directory}"

    def answer(self, kind: str, *lines: str) -> None:
        """From now on requests of this kind are answered with these lines (``{id}`` is the VM); none = no answer."""
        (self.directory / "answers" / kind).write_text("".join(f"{line}\n" for line in lines))

    def answer_again(self, kind: str) -> None:
        """From now on requests of this kind succeed again."""
        (self.directory / "answers" / kind).unlink(missing_ok=True)

    def say(self, line: str) -> None:
        """Prints a line that nobody asked for."""
        with (self.directory / "say").open("a") as file:
            file.write(line + "\n")

    def lines(self) -> list[str]:
        """All lines read so far."""
        path = self.directory / "lines"
        return path.read_text().splitlines() if path.exists() else []


def decoded(line: str) -> tuple[str, str]:
    """Head of a VMM line (``TYPE  id``) and its decoded payload."""
    kind, blank, number, payload = line.split(" ", 3)
    assert blank == ""
    return f"{kind}  {number}", base64.b64decode(payload).decode()


def im_decoded(line: str) -> tuple[str, str]:
    """Head of a monitord line (``TYPE - id 0``) and its decoded payload."""
    kind, status, number, epoch, payload = line.split(" ", 4)
    return f"{kind} {status} {number} {epoch}", zlib.decompress(base64.b64decode(payload)).decode()


def monitor_line(kind: str, host_id: int, text: str, *, epoch: int = 0, result: str = "SUCCESS") -> str:
    """A message to monitord."""
    return f"{kind} {result} {host_id} {epoch} {base64.b64encode(zlib.compress(text.encode())).decode()}"


@dataclass(frozen=True, slots=True)
class ScriptedRemotes:
    """Transfer and datastore scripts named ``onedock`` that answer from files."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> "ScriptedRemotes":
        """Writes all scripts."""
        (directory / "answers").mkdir(parents=True)
        for kind, actions in (("tm", TM_ACTIONS), ("datastore", DATASTORE_ACTIONS)):
            place = directory / kind / "onedock"
            place.mkdir(parents=True)
            for action in actions:
                text = _SCRIPT.format(python=sys.executable, directory=str(directory), kind=kind, action=action)
                (place / action).write_text(text)
                (place / action).chmod(0o755)
        remotes = cls(directory)
        for name, stdout in ANSWERS.items():
            remotes.answer(name, stdout)
        return remotes

    def answer(self, name: str, stdout: str = "", *, stderr: str = "", code: int = 0) -> None:
        """What ``<kind>.<action>`` prints and how it ends from now on."""
        told = {"stdout": stdout, "stderr": stderr, "code": code}
        (self.directory / "answers" / name).write_text(json.dumps(told))

    def runs(self) -> list[dict[str, Any]]:
        """All runs so far: kind, action, argv, stdin."""
        path = self.directory / "runs"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
