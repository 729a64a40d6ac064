"""A driver moved by hand: sends lines under any sequence number, and shows what the controller says to each."""

import json
import socket
from itertools import count
from pathlib import Path
from typing import Any, Self


class HandDriver:
    """``with HandDriver(path) as driver:`` is the controller's newest VMM driver (docs/protocols.md)."""

    _sessions = count(0xABBA0000)

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(path))
        self._messages = self._socket.makefile("rb")
        self._send({"hello": "vmm", "session": f"{next(self._sessions):x}", "pid": 1})
        self.outcomes: list[str] = []
        """Answers for oned so far, log lines left out."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._messages.close()
        self._socket.close()

    def send(self, sequence: int, line: str) -> None:
        """Send a line and wait until it is acknowledged."""
        self._send({"seq": sequence, "line": line})
        while self._next().get("ack") != sequence:
            pass

    def answer(self) -> str:
        """The next answer for oned that has not been returned yet."""
        seen = len(self.outcomes)
        while len(self.outcomes) == seen:
            self._next()
        return self.outcomes[-1]

    def ask(self, sequence: int, line: str) -> str:
        """Send a line and return the answer for oned."""
        known = len(self.outcomes)
        self.send(sequence, line)
        return self.outcomes[known] if len(self.outcomes) > known else self.answer()

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(next(self._messages))
        if "outcome" in message:
            self._send({"delivered": message["outcome"]})
            if not message["line"].startswith("LOG "):
                self.outcomes.append(message["line"])
        return message

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")
