"""The Docker engine of this machine, as an installer meets it: its API, its process, its configuration file."""

import http.client
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onedock.install.steps import InstallError

_CALL_S = 60.0
_DEFAULT_CONFIG = Path("/etc/docker/daemon.json")
_DEFAULT_PID_FILE = Path("/var/run/docker.pid")


class Engine:
    """One engine. Raises InstallError when the address is not that of a socket of this machine.

    Args:
        url: unix:///path/to/docker.sock
        reload_s: how long the engine may take to show what its file says after SIGHUP.
    """

    def __init__(self, url: str, *, reload_s: float = 20.0) -> None:
        scheme, _, path = url.partition("://")
        if scheme != "unix" or not path.startswith("/"):
            raise InstallError(f"--engine {url}: only unix:///path/to/docker.sock can be used; run this on the node")
        self.url = url
        self._reload_s = reload_s
        self._socket = path

    def call(self, method: str, target: str, body: Any = None) -> Any:
        """The JSON of an answer; bytes are sent as they are, all else as JSON. Raises InstallError."""
        connection = http.client.HTTPConnection("localhost")
        content, kind = (body, "application/x-tar") if isinstance(body, bytes) else (None, "application/json")
        if body is not None and content is None:
            content = json.dumps(body).encode()
        try:
            connection.sock = self._connect()
            connection.request(method, target, content, {"Content-Type": kind})
            response = connection.getresponse()
            payload = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise InstallError(
                f"the engine does not answer at {self.url}: {error}; start it, or name --engine"
            ) from None
        finally:
            connection.close()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise InstallError(f"the engine refused {method} {target.partition('?')[0]}: {_message(payload)}")
        lines = payload.strip().splitlines()  # progress comes as one object a line; the last tells how it ended
        try:
            return json.loads(lines[-1]) if lines else None
        except ValueError:
            return None

    def pid(self) -> int:
        """Process id of dockerd. Raises InstallError when it is not to be found out."""
        with self._connect() as connection:
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        candidates: list[int] = [struct.unpack("3i", peer)[0]]  # with socket activation, systemd's
        if _DEFAULT_PID_FILE.is_file() and (text := _DEFAULT_PID_FILE.read_text().strip()).isdigit():
            candidates.append(int(text))
        for pid in candidates:
            if _is_dockerd(pid):
                return pid
        raise InstallError(
            f"the process that serves {self.url} is not found: neither the socket's peer nor {_DEFAULT_PID_FILE} is a "
            "dockerd of this machine; run this where the engine runs"
        )

    def arguments(self) -> list[str]:
        """Command line of dockerd."""
        raw = Path(f"/proc/{self.pid()}/cmdline").read_bytes().rstrip(b"\0")
        return [os.fsdecode(word) for word in raw.split(b"\0")]

    def config_file(self) -> Path:
        """The daemon.json it reads, which need not exist."""
        return Path(option(self.arguments(), "--config-file") or _DEFAULT_CONFIG)

    def reload(self, name: str, entry: dict[str, Any] | None) -> None:
        """SIGHUP: dockerd reads its file again, nothing restarts. InstallError unless it shows ``entry`` in time."""
        self.hang_up()
        deadline = time.monotonic() + self._reload_s
        while self.registered(name) != entry:
            if time.monotonic() > deadline:
                raise InstallError(
                    f"the engine has not taken runtime {name!r} from {self.config_file()} within {self._reload_s:g} s "
                    "of SIGHUP; its log says why (journalctl -u docker)"
                )
            time.sleep(0.1)

    def hang_up(self) -> None:
        """SIGHUP, without waiting for what comes of it."""
        os.kill(self.pid(), signal.SIGHUP)

    def registered(self, name: str) -> dict[str, Any] | None:
        """What the running engine knows of a runtime, as in daemon.json; None when it does not know it."""
        found = self.call("GET", "/info").get("Runtimes", {}).get(name)
        if found is None:
            return None
        arguments = found.get("runtimeArgs") or []
        return {"path": found.get("path"), **({"runtimeArgs": arguments} if arguments else {})}

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_CALL_S)
        try:
            connection.connect(self._socket)
        except OSError as error:
            connection.close()
            why = error.strerror or str(error)
            raise InstallError(f"the engine does not answer at {self.url}: {why}; start it, or name --engine") from None
        return connection


def option(argv: Sequence[str], name: str) -> str | None:
    """Value of ``--name value`` or ``--name=value``; empty for one without a value."""
    for number, word in enumerate(argv):
        if word == name:
            return argv[number + 1] if number + 1 < len(argv) else ""
        if word.startswith(f"{name}="):
            return word[len(name) + 1 :]
    return None


def _is_dockerd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except OSError:
        return False


def _message(payload: str) -> str:
    try:
        message = json.loads(payload)["message"]
    except (ValueError, KeyError, TypeError):
        message = payload
    return " ".join(str(message).split())[:300]
