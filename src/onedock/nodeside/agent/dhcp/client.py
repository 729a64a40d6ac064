"""One run of the DHCP client: the program, what it says, its end. busybox' ``udhcpc``, in the VM's namespace.

The client tells its events to a script, as environment variables. Ours passes them on as they are, ended by zero
bytes, through the standard output that both share with the agent: no value of a server is ever read by a shell, and
when the agent is gone nothing is written anywhere.
"""

import asyncio
import contextlib
import functools
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.dhcp.lease import parse_record
from onedock.reconcilers.model import VmId, namespace_name

SCRIPT = """#!/bin/sh
cat /proc/self/environ && printf 'event=%s\\0\\0' "$1"
"""

_OPTIONS = ("subnet", "router", "dns", "domain", "search", "mtu", "staticroutes")
_RECORD_END = b"\0\0"
_RECORD_LIMIT = 64 * 1024
_DISCOVERS, _DISCOVER_PAUSE_S, _SILENCE_S = "3", "1", "5"
_RELEASE_S, _END_S = 2.0, 3.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_program() -> tuple[str, ...]:
    """The client's command: ``udhcpc``, or busybox when it has that applet; empty when the node has neither."""
    if alone := shutil.which("udhcpc", path=_PATH):
        return (alone,)
    busybox = shutil.which("busybox", path=_PATH)
    if busybox and _has_client(busybox, Path(busybox).stat().st_mtime_ns):
        return (busybox, "udhcpc")
    return ()


@functools.cache
def _has_client(busybox: str, _modified: int) -> bool:
    """Asked once for each busybox that was ever installed; not every one is made with all applets."""
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, timeout=5, check=False).stdout
    return "udhcpc" in listed.split()


class ClientRun:
    """A running client."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.last_words = ""
        """The last line of its own log."""
        self.stopped = False
        """Whether it was let end because of what it had been told."""
        self._released = asyncio.Event()

    @classmethod
    def start(cls, vm: VmId, link: str, script: Path, *, wish: str) -> "ClientRun":
        """Start it on a link of the VM; ``wish`` is the address that it asks for, empty: none.

        Raises OSError when it cannot be started.
        """
        options = [word for name in _OPTIONS for word in ("-O", name)]
        argv = [
            "nsenter",
            f"--net={namespaces.path(namespace_name(vm))}",
            *find_program(),
            *("-f", "-i", link, "-s", str(script), "-o", *options),
            *("-t", _DISCOVERS, "-T", _DISCOVER_PAUSE_S, "-A", _SILENCE_S),
            *(("-r", wish) if wish else ()),
        ]
        return cls(
            subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": _PATH},
                cwd="/",
                # A terminal's Ctrl-C is the agent's business, which ends its clients itself.
                start_new_session=True,
            )
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def events(self) -> AsyncIterator[dict[str, str]]:
        """The variables of each event, its name being ``event``; ends after the process has ended."""
        loop = asyncio.get_running_loop()
        records, words = (asyncio.StreamReader(limit=_RECORD_LIMIT) for _ in range(2))
        pipes = []
        for reader, pipe in ((records, self._process.stdout), (words, self._process.stderr)):
            transport, _ = await loop.connect_read_pipe(functools.partial(asyncio.StreamReaderProtocol, reader), pipe)
            pipes.append(transport)
        listener = loop.create_task(self._listen(words))
        try:
            while True:
                try:
                    record = await records.readuntil(_RECORD_END)
                except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                    break
                event = parse_record(record)
                if event.get("event") == "deconfig":
                    self._released.set()
                yield event
            await asyncio.to_thread(self._process.wait)
        finally:
            listener.cancel()
            for transport in pipes:
                transport.close()

    async def _listen(self, words: asyncio.StreamReader) -> None:
        async for line in words:
            self.last_words = line.decode(errors="replace").strip()[:200]

    def stop(self) -> None:
        """Let it end because of what it was told last, which is not given back."""
        self.stopped = True
        self._process.terminate()

    async def end(self, *, release: bool) -> None:
        """Let it end and reap it, after it has given its lease back if so wanted; killed when it takes too long.

        Its ``events`` must be read meanwhile.
        """
        if release:
            self._released.clear()
            self._process.send_signal(signal.SIGUSR2)
            # Of two signals that are pending together, the client may take the second one first.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), _RELEASE_S)
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, _END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
