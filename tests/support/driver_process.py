"""oned's end of a driver: the real process, started as oned starts it (protocol reference 1.1)."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from onedock.controller.driver import relay

NATIVE = ("/usr/bin/python3", "-IS", relay.__file__)


def _as_oned_starts_it() -> None:
    os.close(2)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


class DriverProcess:
    """A driver with its two pipes: all arguments in one string, fd 2 closed, every signal blocked."""

    def __init__(self, arguments: str, *, command: Sequence[str] = (*NATIVE, "vmm")) -> None:
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        self._rest = b""
        self.process = subprocess.Popen(
            [*command, arguments],
            stdin=theirs_in,
            stdout=theirs_out,
            preexec_fn=_as_oned_starts_it,
            cwd="/",
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for descriptor in (self._to, self._from):
            if descriptor >= 0:
                os.close(descriptor)

    def handshake(self) -> Self:
        """INIT, and one ``read()`` of at most 31 bytes."""
        self.write(b"INIT\n")
        assert self.read_once(31) == b"INIT SUCCESS\n"
        return self

    def write(self, data: bytes, *, within: float = 10.0) -> None:
        """Write all of it; TimeoutError if the driver leaves the pipe full."""
        deadline = time.monotonic() + within
        rest = memoryview(data)
        while rest:
            if not select.select([], [self._to], [], max(0.0, deadline - time.monotonic()))[1]:
                raise TimeoutError(f"driver does not read, {len(rest)} bytes left")
            rest = rest[os.write(self._to, rest[: select.PIPE_BUF]) :]

    def close_input(self) -> None:
        os.close(self._to)
        self._to = -1

    def unread(self) -> int:
        """Bytes that the driver has written and nobody has read."""
        (count,) = struct.unpack("i", fcntl.ioctl(self._from, termios.FIONREAD, bytes(4)))
        return int(count)

    def read_once(self, size: int = 65536, *, within: float = 30.0) -> bytes:
        """One ``read()``; empty at the end of the driver's output."""
        if not select.select([self._from], [], [], within)[0]:
            raise TimeoutError(f"driver wrote nothing for {within} s")
        return os.read(self._from, size)

    def read_line(self) -> bytes:
        """The next line without its newline."""
        while b"\n" not in self._rest:
            data = self.read_once()
            assert data, f"driver has closed its output after {self._rest[-100:]!r}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def status(self, name: str) -> str:
        """A field of /proc/<pid>/status, e.g. SigBlk."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return dict(line.split(":", 1) for line in text.splitlines())[name].strip()
