"""The VM_MAD and IM_MAD executables: they relay between the pipes of oned (or monitord) and the controller.

Lines of oned become JSON lines on the controller's unix socket, outcomes become lines for oned; the messages
are those of docs/protocols.md. The relay has no state of its own: what it holds is what the other side has
not yet taken. Standard library only, and little of it: oned waits for the start of each driver.

How oned starts a driver (protocol reference 1.1): all arguments come as one string in ``argv[1]``, fd 2 is
closed, every signal is blocked, and oned writes to the pipe with blocking writes, so standard input is read
whatever happens on the other side.

The handshake: oned takes the answer to ``INIT`` with a single ``read()`` of at most 31 bytes and drops what
else that read returns. Outcomes are therefore held until the pipe is empty again after ``INIT SUCCESS``: only
then has oned read it. No grace period would be safe against an oned that is stopped or short of CPU.

This file is also run by itself: ``python3 -IS relay.py vmm "--socket /run/onedock/driver.sock"``.
"""

import contextlib
import errno
import fcntl
import json
import os
import select
import shlex
import signal
import socket
import sys
import termios
import time
from collections import deque
from typing import Any, NamedTuple, NoReturn

DEFAULT_SOCKET = "/run/onedock/driver.sock"
LINE_LIMIT = 32 * 1024 * 1024
HEAD = 1024
"""Bytes kept of a line over the limit: more than its first three words have."""
CHUNK = 256 * 1024
FLUSH_S = 0.8
"""How long unacknowledged lines are still offered after the end of input: oned kills a driver after 1 s."""
INIT_POLL_S = 0.005
RETRY_FIRST_S, RETRY_LAST_S = 0.05, 2.0
REMEMBERED = 4096
"""Written outcomes that are recognised when the controller sends them again."""

Outcome = tuple[int, int]
"""The controller's number, and the hash of the line: it tells it from one of a journal that was made anew."""


class Line(NamedTuple):
    """A line of oned without its newline; of an oversized one only the head, and its true length in bytes."""

    text: bytes
    oversized: int = 0

    def message(self, sequence: int) -> dict[str, Any]:
        """The line as the controller gets it; bytes that are no UTF-8 become lone surrogates."""
        message = {"seq": sequence, "line": self.text.decode("utf-8", "surrogateescape")}
        return {**message, "oversized": self.oversized} if self.oversized else message


class Lines:
    """Cuts the bytes from oned into lines, and never holds more than ``limit`` of an unfinished one."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._length = 0
        """Bytes of the unfinished line so far; more than ``_rest`` has once it is oversized."""

    def feed(self, data: bytes) -> list[Line]:
        """Take bytes, return the lines that they complete."""
        *ends, rest = data.split(b"\n")
        lines = []
        for end in ends:
            self._append(end)
            lines.append(self._take())
        self._append(rest)
        return lines

    def _append(self, data: bytes) -> None:
        self._length += len(data)
        if self._length <= self._limit:
            self._rest += data
        else:
            self._rest = (self._rest[:HEAD] + data[:HEAD])[:HEAD]

    def _take(self) -> Line:
        text, length = bytes(self._rest), self._length
        self._rest, self._length = bytearray(), 0
        if length <= self._limit:
            return Line(text)
        # Words between single blanks: the status of VMM lines is empty (protocol reference 1.2).
        return Line(b" ".join([*text.split(b" ", 3)[:3], b""]), oversized=length)


class Controller:
    """The connection to the controller: lines until acknowledged, outcomes, reconnects."""

    def __init__(self, path: str, kind: str) -> None:
        self._path = path
        self._hello = {"hello": kind, "session": os.urandom(16).hex(), "pid": os.getpid()}
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._sending = bytearray()
        self._pending: dict[int, Line] = {}
        """Lines without acknowledgement, in oned's order."""
        self._unsent: deque[int] = deque()
        """Those of them that were not yet sent over this connection."""
        self._sequence = 0
        self._retry_at = 0.0
        self._retry_s = RETRY_FIRST_S
        self._trouble = ""

    @property
    def drained(self) -> bool:
        """Whether every line was acknowledged and nothing is left to say."""
        return not self._pending and not self._sending

    def add(self, line: Line) -> None:
        """Hand over one line of oned; it is kept until the controller has acknowledged it."""
        self._sequence += 1
        self._pending[self._sequence] = line
        self._unsent.append(self._sequence)

    def delivered(self, number: int) -> None:
        """Report an outcome as written; without a connection it is left to the controller's next attempt."""
        if self._socket:
            self._sending += _encode({"delivered": number})

    def connect(self, *, at_once: bool = False) -> None:
        """Connect if there is no connection and it is time for an attempt."""
        if self._socket or (time.monotonic() < self._retry_at and not at_once):
            return
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            self._lost(f"cannot connect: {error}")
            return
        self._socket = connection
        self._received.clear()
        self._sending = bytearray(_encode(self._hello))
        self._unsent = deque(self._pending)

    def interest(self) -> tuple[int, int] | None:
        """File descriptor and events to poll for; None while there is no connection."""
        if not self._socket:
            return None
        return self._socket.fileno(), select.POLLIN | (select.POLLOUT if self._sending or self._unsent else 0)

    def wait_s(self) -> float | None:
        """Seconds until the next attempt to connect; None while connected."""
        return None if self._socket else max(0.0, self._retry_at - time.monotonic())

    def exchange(self, events: int) -> list[dict[str, Any]]:
        """Send and receive what is possible without blocking; return the outcomes received."""
        messages: list[dict[str, Any]] = []
        try:
            if self._socket and events & select.POLLOUT:
                self._send(self._socket)
            if self._socket and events & ~select.POLLOUT:
                messages = self._receive(self._socket)
        except BlockingIOError:
            pass
        except OSError as error:
            self._lost(str(error))
        return [message for message in messages if not self._acknowledge(message)]

    def _send(self, connection: socket.socket) -> None:
        while self._unsent and len(self._sending) < CHUNK:
            number = self._unsent.popleft()
            if line := self._pending.get(number):
                self._sending += _encode(line.message(number))
        with memoryview(self._sending) as view:
            sent = connection.send(view[:CHUNK])
        del self._sending[:sent]

    def _receive(self, connection: socket.socket) -> list[dict[str, Any]]:
        data = connection.recv(CHUNK)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the controller")
        self._retry_s = RETRY_FIRST_S
        self._trouble = ""
        self._received += data
        *lines, self._received = self._received.split(b"\n")
        return [message for line in lines if (message := _decode(line))]

    def _acknowledge(self, message: dict[str, Any]) -> bool:
        if "ack" not in message:
            return False
        if isinstance(message["ack"], int):
            self._pending.pop(message["ack"], None)
        return True

    def _lost(self, trouble: str) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None
        # With jitter, lest all drivers knock at a starting controller in step.
        self._retry_at = time.monotonic() + self._retry_s * (0.5 + os.urandom(1)[0] / 255)
        self._retry_s = min(self._retry_s * 2, RETRY_LAST_S)
        if trouble != self._trouble:
            self._trouble = trouble
            _log(f"controller at {self._path}: {trouble}; holding {len(self._pending)} lines, trying again")


class Relay:
    """One driver process: standard input and output on oned's side, a ``Controller`` on the other."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._lines = Lines()
        self._writing: deque[tuple[Outcome | None, bytes]] = deque()
        """Lines for oned, the first one perhaps partly written; an answer to INIT is no outcome."""
        self._queued: set[Outcome] = set()
        self._written: dict[Outcome, None] = {}
        """The last ones, oldest first. A controller that missed our ``delivered`` sends an outcome again, and
        oned would take a second answer for that to the VM's next operation (protocol reference 1.2)."""
        self._greeted = False
        self._init_unread = False
        self._ended = False

    def run(self) -> None:
        """Relay until FINALIZE, the end of input or a signal, then offer what is left for a moment."""
        wakeup = _wake_on_signals()
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        while not self._ended:
            if self._greeted:
                self._controller.connect()
            ready = self._poll(wakeup)
            if 1 in ready:
                self._write()
            if 0 in ready:
                self._read()
            if wakeup in ready:
                self._ended = True
        if self._greeted:
            self._flush()

    def _poll(self, wakeup: int) -> dict[int, int]:
        """Wait, exchange with the controller if possible, and return what else is ready."""
        interest = {0: select.POLLIN, wakeup: select.POLLIN}
        limit = None
        if self._writing:
            if self._holding():
                limit = INIT_POLL_S
            else:
                interest[1] = select.POLLOUT
        return self._wait(interest, limit)

    def _wait(self, interest: dict[int, int], limit: float | None) -> dict[int, int]:
        timeouts = [limit, self._controller.wait_s() if self._greeted else None]
        shortest = min((timeout for timeout in timeouts if timeout is not None), default=None)
        poll = select.poll()
        for descriptor, events in interest.items():
            poll.register(descriptor, events)
        connection = self._controller.interest()
        if connection:
            poll.register(*connection)
        ready = dict(poll.poll(None if shortest is None else shortest * 1000))
        if connection and connection[0] in ready:
            for message in self._controller.exchange(ready.pop(connection[0])):
                self._take(message)
        return ready

    def _read(self) -> None:
        try:
            data = os.read(0, CHUNK)
        except BlockingIOError:
            return
        if not data:
            # An unfinished line is dropped with its writer: its end, and so its meaning, is unknown.
            self._ended = True
        for line in self._lines.feed(data):
            word = line.text.split(None, 1)[:1]
            if word == [b"FINALIZE"]:
                self._ended = True
                return
            if word == [b"INIT"]:
                self._greeted = True
                self._writing.append((None, b"INIT SUCCESS\n"))
            elif word:
                self._controller.add(line)

    def _take(self, message: dict[str, Any]) -> None:
        try:
            number, line = int(message["outcome"]), str(message["line"]).encode("utf-8", "surrogateescape")
        except (KeyError, ValueError, TypeError) as error:
            _log(f"message of the controller not understood, left out: {error!r}")
            return
        outcome = (number, hash(line))
        if outcome in self._written:
            self._controller.delivered(number)
        elif outcome not in self._queued:
            self._queued.add(outcome)
            self._writing.append((outcome, line + b"\n"))

    def _holding(self) -> bool:
        """Whether oned has not yet read ``INIT SUCCESS``: nothing may get into the same ``read()``."""
        if self._init_unread:
            try:
                unread = fcntl.ioctl(1, termios.FIONREAD, bytes(4))
            except OSError:
                unread = bytes(4)  # not a pipe: nobody reads 31 bytes here
            self._init_unread = any(unread)
        return self._init_unread

    def _write(self) -> None:
        outcome, text = self._writing[0]
        try:
            rest = text[os.write(1, text) :]
        except BlockingIOError:
            return
        except OSError:
            self._ended = True  # oned has closed its end
            return
        if rest:
            self._writing[0] = (outcome, rest)
            return
        self._writing.popleft()
        if outcome is None:
            self._init_unread = True
            return
        self._queued.discard(outcome)
        self._written[outcome] = None
        if len(self._written) > REMEMBERED:
            del self._written[next(iter(self._written))]
        self._controller.delivered(outcome[0])

    def _flush(self) -> None:
        # Outcomes are not written any more: oned may have gone, and they would count as delivered.
        deadline = time.monotonic() + FLUSH_S
        self._controller.connect(at_once=True)
        while not self._controller.drained and time.monotonic() < deadline:
            self._wait({}, max(0.0, deadline - time.monotonic()))
            self._controller.connect()


def vmm() -> NoReturn:
    """Console entry point of the VM_MAD."""
    _main("vmm", sys.argv[1:])


def im() -> NoReturn:
    """Console entry point of the IM_MAD."""
    _main("im", sys.argv[1:])


def _main(kind: str, arguments: list[str]) -> NoReturn:
    _occupy_stderr()
    options = {"--socket": DEFAULT_SOCKET, "--log": ""}
    words = shlex.split(" ".join(arguments))
    while words:
        name = words.pop(0)
        if name not in options or not words:
            _log(f"argument {name!r} not understood; usage: onedock-{kind} [--socket PATH] [--log FILE]")
            sys.exit(2)
        options[name] = words.pop(0)
    if options["--log"]:
        _log_to(options["--log"])
    Relay(Controller(options["--socket"], kind)).run()
    # No interpreter shutdown: it would only free what ends with the process, while oned waits.
    os._exit(0)


def _occupy_stderr() -> None:
    """Fill fd 2 if it is closed, lest the next file or socket gets that number and error texts with it."""
    try:
        os.fstat(2)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _log_to(path: str) -> None:
    try:
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640), 2)
    except OSError as error:
        _log(f"log not written: {error}")  # and go on: a driver that does not start keeps oned from starting


def _wake_on_signals() -> int:
    """Undo the inherited signal mask; return a descriptor that is readable once the process shall end."""
    wakeup, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return wakeup


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _decode(line: bytes | bytearray) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if isinstance(message, dict):
        return message
    _log("message of the controller is no JSON object, left out")
    return None


def _log(text: str) -> None:
    line = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} onedock driver {os.getpid()}: {text}\n"
    with contextlib.suppress(OSError):  # a full disk must not stop the relay
        os.write(2, line.encode("utf-8", "backslashreplace"))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
