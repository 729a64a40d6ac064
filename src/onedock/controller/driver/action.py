#!/usr/bin/python3 -IS
"""Every transfer manager and datastore script of ONEDock: it hands its call to the controller and waits.

The path it was started by says what it is: ``…/tm/onedock/clone`` and ``…/datastore/onedock/stat`` are links
to this file (see ``layout``). Messages: docs/protocols.md. Output and exit code are the controller's
(protocol reference 1.6). Standard library only: one process is started for each disk of each deploy.

Environment: ``ONEDOCK_DRIVER_SOCKET``, the controller's socket; ``ONEDOCK_DRIVER_PATIENCE``, seconds that the
controller may be out of reach before the call fails.
"""

import contextlib
import json
import os
import select
import socket
import sys
import time
from typing import Any

DEFAULT_SOCKET = "/run/onedock/driver.sock"
DEFAULT_PATIENCE_S = 600.0
STAT_LIMIT_S = 80.0
"""``stat`` must be answered in less than the 90 s that oned waits for it (protocol reference 4.1)."""
RETRY_FIRST_S, RETRY_LAST_S = 0.05, 2.0
TM_ACTIONS_WITH_INPUT = frozenset({
    "premigrate", "postmigrate", "failmigrate", "prebackup", "prebackup_live", "postbackup",
    "postbackup_live", "monitor",
})  # fmt: skip
"""Protocol reference 3.3. For the others standard input may be anything, even a pipe that nobody closes."""


def ask(path: str, kind: str, request: dict[str, Any], *, patience_s: float, total: bool) -> dict[str, Any]:
    """Send the request over and over until the controller answers it; return the message with the result.

    The request's id stays the same, so that the controller knows it again. ``patience_s`` limits the time
    without a connection (a pull may take long), with ``total`` the time until the answer. Raises the last
    OSError, or ValueError for an answer that is no JSON, when that time is over or nobody is left to be answered.
    """
    hello = {"hello": kind, "session": os.urandom(16).hex(), "pid": os.getpid()}
    message = "".join(json.dumps(part) + "\n" for part in (hello, request)).encode()
    give_up = time.monotonic() + patience_s
    retry_s = RETRY_FIRST_S
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.settimeout(max(0.001, give_up - time.monotonic()))
                connection.connect(path)
                if not total:
                    connection.settimeout(None)
                    give_up = float("inf")
                connection.sendall(message)
                return _receive(connection, request["request"])
            except (OSError, ValueError):
                give_up = min(give_up, time.monotonic() + patience_s)
                wait_s = retry_s * (0.5 + os.urandom(1)[0] / 255)
                if time.monotonic() + wait_s >= give_up or _nobody_listens():
                    raise
        time.sleep(wait_s)
        retry_s = min(retry_s * 2, RETRY_LAST_S)


def _receive(connection: socket.socket, request: str) -> dict[str, Any]:
    with connection.makefile("rb") as lines:
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if message.get("result") == request:
                return message
    raise ConnectionResetError("the controller closed the connection")


def _input(kind: str, action: str) -> str:
    """What the contract provides on standard input; bytes that are no UTF-8 become lone surrogates."""
    if kind == "tm" and action.partition(".")[0] not in TM_ACTIONS_WITH_INPUT:
        return ""
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def _nobody_listens() -> bool:
    """Whether standard output leads to a reader that has gone: oned has ended, and forgets its transfers then."""
    output = select.poll()
    output.register(1, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0))


def _print(descriptor: int, text: str) -> None:
    # A reader that has gone does not change what was done.
    with contextlib.suppress(OSError), open(descriptor, "wb", closefd=False) as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))


def main() -> int:
    """Run as one script; return its exit code."""
    *_, kind, _driver, action = ["", "", *filter(None, sys.argv[0].split("/"))]
    if kind not in {"tm", "datastore"}:
        _print(2, f"{sys.argv[0]}: neither a tm nor a datastore script; start it as …/tm/onedock/<action>\n")
        return 1
    path = os.environ.get("ONEDOCK_DRIVER_SOCKET", DEFAULT_SOCKET)
    patience_s = float(os.environ.get("ONEDOCK_DRIVER_PATIENCE", DEFAULT_PATIENCE_S))
    stat = kind == "datastore" and action == "stat"
    request = {
        "request": os.urandom(16).hex(),
        "action": action,
        "argv": sys.argv[1:],
        "stdin": _input(kind, action),
    }
    try:
        result = ask(path, kind, request, patience_s=min(patience_s, STAT_LIMIT_S) if stat else patience_s, total=stat)
    except (OSError, ValueError) as error:
        _print(2, f"ONEDock controller did not answer at {path} ({error}); start onedock-controller, retry\n")
        return 1
    _print(1, result["stdout"])
    _print(2, result["stderr"])
    return int(result["code"])


if __name__ == "__main__":
    sys.exit(main())
