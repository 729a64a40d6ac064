"""Plain HTTP over the controller's unix socket; no event loop is needed to read one answer."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TIMEOUT_S = 10.0


class ApiError(Exception):
    """The controller cannot be asked, or refused. The text is for the terminal."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost")
        self._path = path
        self._limit = timeout

    def connect(self) -> None:
        """Connect to the socket file instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._limit)
        self.sock.connect(str(self._path))


def _open(path: Path, target: str, timeout: float | None, *, method: str = "GET") -> http.client.HTTPResponse:
    connection = _UnixConnection(path, timeout)
    try:
        connection.request(method, target)
        return connection.getresponse()
    except PermissionError:
        raise ApiError(f"no right to use {path}: run this as root or as the controller's user (oneadmin)") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise ApiError(f"the controller does not run: nothing listens on {path} (start onedock-controller)") from None
    except OSError as error:
        raise ApiError(f"the controller does not answer on {path}: {error}") from error


def get_json(path: Path, target: str) -> Any:
    """The answer to one GET. Raises ApiError."""
    return _answer(_open(path, target, TIMEOUT_S), target)


def post(path: Path, target: str) -> None:
    """Ask for a change. Raises ApiError."""
    _answer(_open(path, target, TIMEOUT_S, method="POST"), target)


def _answer(response: http.client.HTTPResponse, target: str) -> Any:
    body = response.read()
    try:
        answer = json.loads(body)
    except ValueError:
        raise ApiError(f"the controller's answer to {target} is not JSON (HTTP {response.status})") from None
    if response.status != http.HTTPStatus.OK:
        raise ApiError(str(answer.get("error", f"HTTP {response.status}")))
    return answer


def get_text(path: Path, target: str) -> str:
    """The answer to one GET as text. Raises ApiError."""
    return _open(path, target, TIMEOUT_S).read().decode()


def stream_json(path: Path, target: str) -> Iterator[dict[str, Any]]:
    """JSON objects, one per line, as they come; ends with the connection."""
    response = _open(path, target, None)
    if response.status != http.HTTPStatus.OK:
        _answer(response, target)
    for line in response:
        yield json.loads(line)
