"""One HTTP call over a unix socket: the engine, the agent and the controller all answer to that."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from onedock.lab.errors import LabError

TIMEOUT_S = 30.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, method: str, target: str, *, timeout: float = TIMEOUT_S) -> Any:
    """The JSON of the answer, None for one without. Raises OSError (no answer) or LabError (a refusal)."""
    connection = _Connection(path, timeout)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        body = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{path}: {error!r}") from error
    finally:
        connection.close()
    if response.status >= http.HTTPStatus.BAD_REQUEST:
        raise LabError(f"{path}: {method} {target}: {response.status} {body.decode(errors='replace')[:300].strip()}")
    try:
        return json.loads(body)
    except ValueError:
        return None


def answers(path: Path, target: str) -> bool:
    """Whether a GET is answered well."""
    try:
        ask(path, "GET", target, timeout=5)
    except (OSError, LabError):
        return False
    return True


def docker_socket(address: str) -> Path:
    """The socket of an engine's address. Raises LabError for what is none."""
    scheme, _, path = address.partition("://")
    if scheme != "unix" or not path.startswith("/"):
        raise LabError(f"--engine {address}: only unix:///path/to/docker.sock can be used: the node is this machine")
    return Path(path)
