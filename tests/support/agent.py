"""A real node agent as a process of the tests, in a network namespace of its own that plays the node."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.support import processes


class PrivateAgent:
    """``with PrivateAgent() as agent:`` starts onedock-agent and leaves neither links nor namespaces behind.

    Args:
        netns: An existing namespace to be the node (a private engine's); None: a new one.
        runtime_dir: Where the bindings go (a private engine's); None: a new directory.
        engine_root: Data directory of an engine (a private one's); None: one that is not there.
        under: Command that runs the agent's own, to take rights from it.
    """

    def __init__(
        self,
        *,
        netns: str | None = None,
        runtime_dir: Path | None = None,
        engine_root: Path | None = None,
        under: Sequence[str] = (),
    ) -> None:
        self.name = f"{processes.RUN}-{secrets.token_hex(3)}"
        self.netns = netns or self.name
        self._own_netns = netns is None
        self._under = under
        self.runtime_dir = runtime_dir
        self._engine_root = engine_root
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir="/var/tmp"))
        self.socket = self.directory / "agent.sock"
        self.state_dir = self.directory / "state"
        self.runtime_dir = self.runtime_dir or self.directory / "runtime"
        self.log = self.directory / "agent.log"
        try:
            if self._own_netns:
                subprocess.run(["ip", "netns", "add", self.netns], check=True, capture_output=True)
                self.run(["ip", "link", "set", "lo", "up"])
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the agent."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the agent's process runs."""
        return self._process is not None and self._process.poll() is None

    def rival(self) -> subprocess.CompletedProcess[str]:
        """Run a second agent with the same settings until it gives up."""
        return subprocess.run(
            self._argv, env=self._environment, check=False, capture_output=True, text=True, timeout=30
        )

    def start(self) -> None:
        """Start the agent (again) and wait until it listens."""
        keys = {"socket": self.socket, "state_dir": self.state_dir, "runtime_dir": self.runtime_dir}
        keys["engine_root"] = self._engine_root or self.directory / "engine"
        config = self.directory / "onedock.toml"
        config.write_text("[agent]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items()))
        self._environment = {**os.environ, "ONEDOCK_CONFIG": str(config)}
        enter = ["nsenter", f"--net=/run/netns/{self.netns}", *self._under]
        self._argv = [*enter, sys.executable, "-m", "onedock.nodeside.agent"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        processes.wait_until(self._listens, within=30, what="the agent listens")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(20)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the agent, remove the namespaces of all VMs that it knew, and its own."""
        kept = self.state_dir / "vms"
        if self._process is not None:
            processes.end(self._process)
        for file in kept.glob("*.json"):
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run(["ip", "netns", "delete", f"one-{file.stem}"], check=True, capture_output=True)
        if self._own_netns and Path("/run/netns", self.netns).exists():
            subprocess.run(["ip", "netns", "delete", self.netns], check=True, capture_output=True)
        processes.remove_tree(self.directory)

    def story(self) -> str:
        """The last of what it has logged, for a failed test."""
        said = self.log.read_text(errors="replace")[-4000:] if self.log.exists() else "nothing is left of it"
        return f"log of the agent in {self.netns}:\n{said}"

    def run(self, argv: Sequence[str], *, netns: str | None = None) -> str:
        """Output of a program run in the node's namespace, or another. CalledProcessError when it fails."""
        command = ["nsenter", f"--net=/run/netns/{netns or self.netns}", *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def ip(self, *argv: str, netns: str | None = None) -> Any:
        """What ``ip -json -details`` shows in the node's namespace, or another."""
        return json.loads(self.run(["ip", "-json", "-details", *argv], netns=netns) or "[]")

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the agent ended with {self._process.returncode}: {self.log.read_text()[-3000:]}")
        return processes.listens(self.socket)
