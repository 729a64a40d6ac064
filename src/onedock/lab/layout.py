"""Where everything of one lab is, and what was chosen for it on this machine: one directory, one lab.

Files live in the state directory (``.lab`` in the checkout); sockets, whose paths the kernel limits to 107 bytes,
in a directory of ``/run`` named after it.
"""

import hashlib
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from onedock.lab.errors import LabError
from onedock.lab.unix_http import docker_socket

OWN_ENGINE = "own"
MARK = "ONEDOCK_LAB"
"""Environment variable of every process that the lab starts, and of theirs; its value is the state directory."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What is decided when a lab is made, and stays: its VMs and images carry these."""

    bridge: str
    subnet: str
    """First three bytes of its /24."""
    one_port: int
    monitor_port: int
    registry_port: int
    first_vm: int
    engine: str
    """``own``, or the address of an engine that runs already."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of the lab in ``state``."""

    state: Path

    @property
    def run(self) -> Path:
        """Directory of sockets and of what must not outlive a boot."""
        return Path(f"/run/onedock-lab-{self.key}")

    @property
    def key(self) -> str:
        """Short name of this lab, unique on the machine."""
        return hashlib.sha256(os.fsencode(self.state)).hexdigest()[:8]

    @property
    def cgroup(self) -> str:
        """Parent of the control groups of the VMs in the lab's own engine."""
        return f"onedock-lab-{self.key}"

    @property
    def bin(self) -> Path:
        """Directory for ``PATH``: the one* commands and onedock."""
        return self.state / "bin"

    @property
    def agent_state(self) -> Path:
        """The agent's memory."""
        return self.state / "agent"

    @property
    def runtime_dir(self) -> Path:
        """Where onedock-runtime looks for namespaces."""
        return self.run / "runtime"

    @property
    def configuration(self) -> Path:
        """ONEDock's settings."""
        return self.state / "onedock.toml"

    @property
    def one_auth(self) -> Path:
        """Session of OpenNebula's administrator."""
        return self.state / "one" / "one_auth"

    def log(self, part: str) -> Path:
        """Log file of a process."""
        return self.state / "log" / f"{part}.log"

    def pid_file(self, part: str) -> Path:
        """Pid file of a process."""
        return self.state / "pid" / part

    def engine_socket(self, choices: Choices) -> Path:
        """Socket of the engine."""
        return self.run / "docker.sock" if choices.engine == OWN_ENGINE else docker_socket(choices.engine)

    def environment(self, choices: Choices) -> dict[str, str]:
        """What a shell needs to use the lab; ``PATH`` is left to :meth:`path`."""
        return {
            "ONE_XMLRPC": f"http://127.0.0.1:{choices.one_port}/RPC2",
            "ONE_AUTH": str(self.one_auth),
            "ONEDOCK_CONFIG": str(self.configuration),
        }

    @property
    def path(self) -> str:
        """``PATH`` with the lab's commands before all others; sbin, because a user's own may lack it."""
        return f"{self.bin}:{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"

    def check(self) -> None:
        """Raises LabError when the lab cannot work in these places."""
        for what, place in (("state directory", self.state), ("Python interpreter", Path(sys.executable))):
            if any(character.isspace() for character in str(place)):
                raise LabError(
                    f"the {what} {place} has a blank in its path, and OpenNebula's transfer lines separate words by "
                    "blanks; use a checkout in another directory, or --state for the state"
                )

    def read_choices(self) -> Choices | None:
        """What was chosen earlier. Raises LabError when the file cannot be used."""
        file = self.state / "lab.json"
        try:
            return Choices(**json.loads(file.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise LabError(f"{file} cannot be used: {error}; end the demo (make demo-stop) and begin anew") from error

    def write_choices(self, choices: Choices) -> None:
        """Keep them."""
        draft = self.state / ".lab.json"
        draft.write_text(json.dumps(asdict(choices), indent=1) + "\n")
        draft.replace(self.state / "lab.json")


def free_port(first: int, taken: set[int]) -> int:
    """The first port from ``first`` on that nobody uses on the loopback address, for TCP and UDP alike."""
    for port in range(first, first + 1000):
        if port in taken:
            continue
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        taken.add(port)
        return port
    raise LabError(f"no free port from {first} to {first + 999} on 127.0.0.1; end what uses them")
