"""A driver as a child process on two pipes, the way oned and monitord keep it (protocol reference 1.1, 1.2).

The child gets its arguments as one string, no standard error and every signal blocked. It has ten seconds to answer
INIT with one read of at most 31 bytes; what follows in that read is lost. At the end of its output it is started again
at once, and nothing is sent twice.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger()

HANDSHAKE_SECONDS = 10.0
_HANDSHAKE_BYTES = 31
_LINE_LIMIT = 1 << 30
_LINE = re.compile(r"^(\S+)\s+(\S+)\s+(\S+)\s?(.*)$", re.DOTALL)


class DriverStartError(Exception):
    """The driver did not answer INIT as it must."""


@dataclass(frozen=True, slots=True)
class Message:
    """One line of a driver; an id that is no number reads as 0, as in oned."""

    type: str
    result: str
    id: int
    payload: str

    @property
    def ok(self) -> bool:
        """Whether the driver says that it worked."""
        return self.result == "SUCCESS"


def read_line(line: str) -> Message | None:
    """Takes a line apart; None when it has fewer than three words."""
    match = _LINE.match(line.rstrip("\n"))
    if match is None:
        return None
    kind, result, number, payload = match.groups()
    return Message(kind, result, int(number) if re.fullmatch(r"-?\d+", number) else 0, payload.strip())


class Driver:
    """One driver process, kept alive until :meth:`stop`.

    Args:
        name: For the log.
        executable: Path of the program.
        arguments: Everything it gets, as the one string that becomes its argv[1].
        on_message: Called with each line it prints.
        handshake_seconds: How long INIT may take.
    """

    def __init__(
        self,
        name: str,
        executable: str,
        arguments: str,
        on_message: Callable[[Message], None],
        *,
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        self.name = name
        self.pid = 0
        self._argv = [executable, arguments]
        self._on_message = on_message
        self._handshake_seconds = handshake_seconds
        self._writer: asyncio.WriteTransport | None = None
        self._output = -1
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the process.

        Raises:
            DriverStartError: It cannot be executed or does not answer ``INIT SUCCESS`` in time.
        """
        await self._spawn()
        self._task = asyncio.create_task(self._keep_alive())

    async def stop(self) -> None:
        """Says FINALIZE, closes the pipes and ends the process."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._reap()

    def write(self, line: str) -> None:
        """Sends one line; lost when the process is just being started again, as with a broken pipe."""
        if self._writer:
            self._writer.write(f"{line}\n".encode())

    async def _spawn(self) -> None:
        input_write = self._execute()
        loop = asyncio.get_running_loop()
        self._writer, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(input_write, "wb", buffering=0))
        self.write("INIT")
        answer = await self._first_read()
        if answer.split()[:2] != [b"INIT", b"SUCCESS"]:
            await self._reap()
            raise DriverStartError(f"driver {self._argv[0]} answered INIT with {answer!r} instead of INIT SUCCESS")

    def _execute(self) -> int:
        """Makes pipes and process; returns the descriptor that is the child's standard input."""
        executable = self._argv[0]
        if not Path(executable).is_file():
            raise DriverStartError(f"driver {executable} does not exist; check its path")
        input_read, input_write = os.pipe2(os.O_CLOEXEC)
        self._output, output_write = os.pipe2(os.O_CLOEXEC)
        try:
            self.pid = os.posix_spawn(
                executable,
                self._argv,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, input_read, 0),
                    (os.POSIX_SPAWN_DUP2, output_write, 1),
                    (os.POSIX_SPAWN_CLOSE, 2),
                ],
                setsigmask=signal.valid_signals(),
            )
        except OSError as error:
            os.close(input_write)
            os.close(self._output)
            self._output = -1
            raise DriverStartError(f"driver {executable} cannot be executed: {error.strerror}") from error
        finally:
            os.close(input_read)
            os.close(output_write)
        return input_write

    async def _first_read(self) -> bytes:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._output, readable.set)
        try:
            await asyncio.wait_for(readable.wait(), self._handshake_seconds)
            return os.read(self._output, _HANDSHAKE_BYTES)
        except TimeoutError:
            return b""
        finally:
            loop.remove_reader(self._output)

    async def _keep_alive(self) -> None:
        while True:
            await self._read_all()
            log.warning("driver ended and is started again", driver=self.name, pid=self.pid)
            await self._reap()
            await self._spawn_again()

    async def _spawn_again(self) -> None:
        while True:
            try:
                return await self._spawn()
            except DriverStartError as error:
                log.error("driver could not be started again", driver=self.name, error=str(error))
                await asyncio.sleep(1)  # oned would try in a tight loop

    async def _read_all(self) -> None:
        reader = asyncio.StreamReader(limit=_LINE_LIMIT)
        pipe = os.fdopen(os.dup(self._output), "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while line := await reader.readline():
                message = read_line(line.decode(errors="replace"))
                if message is None:
                    log.warning("undefined line of driver", driver=self.name, line=line[:100])
                    continue
                try:
                    self._on_message(message)
                except Exception:
                    # one bad answer must not end the pipe of all VMs
                    log.exception("answer of driver could not be used", driver=self.name, type=message.type)
        finally:
            transport.close()

    async def _reap(self) -> None:
        if self._writer:
            self.write("FINALIZE")
            self._writer.close()
            self._writer = None
        if self._output >= 0:
            os.close(self._output)
            self._output = -1
        if self.pid:
            await _wait_or_kill(self.pid, 1.0)
            self.pid = 0


async def _wait_or_kill(pid: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    process = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop.add_reader(process, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
    finally:
        loop.remove_reader(process)
        os.close(process)
    await asyncio.to_thread(os.waitpid, pid, 0)
