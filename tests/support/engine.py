"""A Docker engine of the tests' own: dockerd and containerd as child processes, in a namespace of their own.

Nothing of a Docker installation on the machine is used or touched. All methods block for up to some seconds:
inside a running loop call them through ``asyncio.to_thread``.
"""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.support import processes
from tests.support.processes import wait_until

RUNTIME = Path(__file__).parents[2] / "src/onedock/nodeside/runtime/onedock-runtime"
NEEDED = ("dockerd", "containerd", "runc", "ip", "nsenter")


def why_not() -> str | None:
    """Why no engine can be started on this machine, or None."""
    if os.geteuid() != 0:
        return "a private engine needs root"
    missing = [program for program in NEEDED if shutil.which(program) is None]
    return f"a private engine needs {', '.join(missing)} in PATH" if missing else None


class EngineApiError(Exception):
    """The engine answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class PrivateEngine:
    """One Docker engine. ``with PrivateEngine() as engine:`` starts it and leaves nothing behind.

    Args:
        base: An existing directory with room for images; a new directory is made in it.
        runtime: The program registered as runtime ``onedock``.
        options: More keys for ``daemon.json``.
    """

    def __init__(
        self, *, base: Path = Path("/var/tmp"), runtime: Path = RUNTIME, options: dict[str, Any] | None = None
    ) -> None:
        self.name = f"{processes.RUN}-{secrets.token_hex(3)}"
        self.netns = self.name
        self._base = base
        self._runtime = runtime
        self._options = options or {}
        self._dockerd: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Make directory and namespace, start both daemons, and wait until the engine answers."""
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=self._base))
        self.socket = self.directory / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.data_root = self.directory / "data"
        self.exec_root = self.directory / "exec"
        self.runtime_dir = self.directory / "runtime"
        self.log = self.directory / "engine.log"
        self._containerd_socket = self.directory / "containerd.sock"
        self.runtime_dir.mkdir()
        try:
            subprocess.run(["ip", "netns", "add", self.netns], check=True, capture_output=True)
            self.run_in_netns(["ip", "link", "set", "lo", "up"])
            self._write_configuration()
            self._start_containerd()
            self.start_dockerd()
        except BaseException as error:
            if self.log.exists():
                error.add_note(self.log.read_text(errors="replace")[-4000:])
            self.close()
            raise

    def close(self) -> None:
        """End everything that was started, dockerd alive or not, and remove every trace of it."""
        if self._dockerd is not None:
            self._dockerd.send_signal(signal.SIGCONT)
            with contextlib.suppress(OSError, EngineApiError):  # what dockerd does not remove is killed below
                self._remove_containers()
            processes.end(self._dockerd)
        self._kill_shims()
        if self._containerd is not None:
            processes.end(self._containerd)
        processes.remove_tree(self.directory)
        processes.remove_cgroups(self.name)
        if Path("/run/netns", self.netns).exists():
            subprocess.run(["ip", "netns", "delete", self.netns], check=True, capture_output=True)

    @property
    def dockerd_pid(self) -> int:
        """Process id of dockerd, for signals."""
        assert self._dockerd is not None
        return self._dockerd.pid

    def start_dockerd(self) -> None:
        """Start dockerd (again) and wait until it answers."""
        # A killed dockerd leaves its pid file; the next one believes it if the number is in use again.
        (self.directory / "docker.pid").unlink(missing_ok=True)
        argv = ["nsenter", f"--net=/run/netns/{self.netns}", "dockerd", "--config-file", str(self._config)]
        with self.log.open("ab") as log:
            self._dockerd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers_or_died, within=30, what=f"dockerd answers on {self.socket}")

    def stop_dockerd(self) -> None:
        """SIGTERM dockerd and wait for its end; with live-restore its containers run on."""
        assert self._dockerd is not None
        processes.end(self._dockerd)

    def kill_dockerd(self) -> None:
        """SIGKILL dockerd and wait for its end; its containers run on."""
        assert self._dockerd is not None
        self._dockerd.kill()
        self._dockerd.wait()

    def restart_dockerd(self, *, kill: bool = False) -> None:
        """Stop or SIGKILL dockerd, then start it again."""
        if kill:
            self.kill_dockerd()
        else:
            self.stop_dockerd()
        self.start_dockerd()

    def freeze_dockerd(self) -> None:
        """SIGSTOP dockerd: connections are still accepted by the kernel, nothing is answered."""
        os.kill(self.dockerd_pid, signal.SIGSTOP)

    def thaw_dockerd(self) -> None:
        """Let a frozen dockerd run on."""
        os.kill(self.dockerd_pid, signal.SIGCONT)

    def run_in_netns(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a program in the engine's network namespace. CalledProcessError when it fails."""
        command = ["nsenter", f"--net=/run/netns/{self.netns}", *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True)

    def api(self, method: str, path: str, body: Any = None, *, timeout: float = 120.0) -> Any:
        """One call of the Engine API, past all code under test. Returns the JSON answer, None when empty.

        ``body`` is bytes or an open file (sent as a tar) or anything else (sent as JSON). EngineApiError: the
        status is 400 or more.
        """
        connection = _UnixConnection(str(self.socket), timeout)
        try:
            if body is None or isinstance(body, bytes) or hasattr(body, "read"):
                connection.request(method, path, body, {"Content-Type": "application/x-tar"})
            else:
                connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            payload = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise EngineApiError(response.status, payload.decode(errors="replace").strip())
        lines = [json.loads(line) for line in payload.splitlines() if line.startswith((b"{", b"["))]
        return lines[-1] if lines else payload.decode(errors="replace") or None

    def _write_configuration(self) -> None:
        self._config = self.directory / "daemon.json"
        runtime = {"path": str(self._runtime), "runtimeArgs": [f"--onedock-runtime-dir={self.runtime_dir}"]}
        configuration = {
            "hosts": [self.url],
            "containerd": str(self._containerd_socket),
            "data-root": str(self.data_root),
            "exec-root": str(self.exec_root),
            "deprecated-key-path": str(self.directory / "key.json"),  # the engine's id is made from this key
            "pidfile": str(self.directory / "docker.pid"),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],  # a parent such as this is no slice of systemd's
            "cgroup-parent": f"/{self.name}",
            "bridge": "none",
            "iptables": False,
            "live-restore": True,
            "insecure-registries": ["127.0.0.0/8"],
            "runtimes": {"onedock": runtime},
            **self._options,
        }
        self._config.write_text(json.dumps(configuration))

    def _start_containerd(self) -> None:
        config = self.directory / "containerd.toml"
        config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        argv = ["containerd", "--config", str(config), "--address", str(self._containerd_socket)]
        argv += ["--root", str(self.directory / "containerd"), "--state", str(self.directory / "state")]
        with self.log.open("ab") as log:
            self._containerd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._containerd_socket.exists, within=30, what="containerd listens")

    def _answers_or_died(self) -> bool:
        if self._dockerd is not None and self._dockerd.poll() is not None:
            raise RuntimeError(f"dockerd ended with status {self._dockerd.returncode}")
        return self._answers()

    def _answers(self) -> bool:
        if self._dockerd is None or self._dockerd.poll() is not None:
            return False
        try:
            self.api("GET", "/_ping", timeout=5)
        except OSError:
            return False
        return True

    def _remove_containers(self) -> None:
        for container in self.api("GET", "/containers/json?all=1"):
            self.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")

    def _kill_shims(self) -> None:
        for shim in processes.shims(str(self._containerd_socket)):
            sockets = [path for path in processes.bound_sockets(shim) if path.parent.name == "s"]
            for pid in [*processes.descendants(shim), shim]:
                processes.kill_now(pid)
            for path in sockets:  # containerd keeps these in /run, whatever its own directories are
                path.unlink(missing_ok=True)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
