"""The controller's side of the driver protocol (docs/protocols.md): a real socket, a journal in memory."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.support.processes import wait_until

Message = dict[str, Any]


class DriverController:
    """Journals lines, hands out outcomes until they are delivered, answers scripts.

    ``stop`` and ``start`` are a crash and a restart: the journal stays, the connections do not.
    """

    def __init__(self, path: Path, *, script: Callable[[Message], Message] | None = None) -> None:
        self.path = path
        self.acknowledging = True
        self.noting_delivered = True
        """Without, it behaves as if it was killed before it could note what was delivered."""
        self.hellos: list[Message] = []
        self.lines: list[Message] = []
        """Each line once, in the order of arrival."""
        self.repeated: list[Message] = []
        self.delivered: list[int] = []
        self.requests: list[Message] = []
        self.outcomes: dict[int, str] = {}
        """Those that were not delivered yet."""
        self._script = script or (lambda _: {"code": 0, "stdout": "", "stderr": ""})
        self._known: set[tuple[str, int]] = set()
        self._lock = threading.RLock()
        self._connections: list[socket.socket] = []
        self._greeted: list[socket.socket] = []
        """Connections whose hello was answered: before it, an outcome would be sent twice."""
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._spawn(self._accept, self._listener)

    def stop(self) -> None:
        with self._lock:
            connections, self._connections = self._connections, []
            self._greeted.clear()
        for endpoint in (self._listener, *connections):
            if endpoint:
                with contextlib.suppress(OSError):
                    endpoint.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for endpoint in (self._listener, *connections):
            if endpoint:
                endpoint.close()
        self._listener = None
        self._threads.clear()
        self.path.unlink(missing_ok=True)

    def send_outcome(self, number: int, line: str) -> None:
        with self._lock:
            self.outcomes[number] = line
            for connection in self._greeted:
                _say(connection, {"outcome": number, "line": line})

    def wait(self, condition: Callable[["DriverController"], bool], what: str) -> None:
        wait_until(lambda: condition(self), within=20, what=f"{what}; {len(self.lines)} lines so far")

    def _spawn(self, function: Callable[[socket.socket], None], endpoint: socket.socket) -> None:
        thread = threading.Thread(target=function, args=(endpoint,))
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        session = ""
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            for raw in stream:
                message = json.loads(raw)
                with self._lock:
                    if "hello" in message:
                        session = message["session"]
                        for number, line in self.outcomes.items():
                            _say(connection, {"outcome": number, "line": line})
                        self._greeted.append(connection)
                        self.hellos.append(message)
                    elif "seq" in message:
                        self._journal(session, message)
                        if self.acknowledging:
                            _say(connection, {"ack": message["seq"]})
                    elif "delivered" in message:
                        self.delivered.append(message["delivered"])
                        if self.noting_delivered:
                            self.outcomes.pop(message["delivered"], None)
                    else:
                        self.requests.append(message)
                        _say(connection, {"result": message["request"], **self._script(message)})

    def _journal(self, session: str, message: Message) -> None:
        key = (session, message["seq"])
        (self.repeated if key in self._known else self.lines).append(message)
        self._known.add(key)


def _say(connection: socket.socket, message: Message) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(message).encode() + b"\n")
