"""Who changes the ports of VMs in Open vSwitch's database: its own client tells, as long as a VM has such a port.

Most damage to a switch changes links in the kernel, which tells of it; VLANs of a port are in the database alone.
"""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from onedock.nodeside.agent.ovs_rows import MONITORED, Columns, differing, parse_changes
from onedock.nodeside.heals import Cause
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import VmId

log = structlog.get_logger()

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
_LINE_BYTES = 64 * 1024 * 1024
"""The first line has all ports of the switch."""
_COMPLAINT_BYTES = 1000


class SwitchWatch:
    """The rows of VMs' ports. Made and called in the event loop."""

    def __init__(self, due: Callable[[VmId, Cause, bool], None]) -> None:
        """``due`` is told which VM to look at, why, and whether others are for the same reason."""
        self._due = due
        self._wanted: dict[VmId, Mapping[str, Columns]] = {}
        self._owners: dict[str, VmId] = {}
        self._missed = False
        self._listening: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        """With those that are about to end."""

    def depend(self, vm: VmId, ports: Mapping[str, Columns]) -> None:
        """From now on the VM needs these ports with these columns, and no others."""
        for name in self._wanted.pop(vm, ()):
            del self._owners[name]
        if ports:
            self._wanted[vm] = ports
            self._owners.update(dict.fromkeys(ports, vm))
        if self._wanted and self._listening is None:
            self._missed = False
            self._listening = asyncio.get_running_loop().create_task(self._listen_on(), name="ovsdb")
            self._tasks.add(self._listening)
            self._listening.add_done_callback(self._tasks.discard)
        elif not self._wanted and self._listening is not None:
            self._listening.cancel()
            self._listening = None

    async def close(self) -> None:
        """Hear no more."""
        for vm in tuple(self._wanted):
            self.depend(vm, {})
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen_on(self) -> None:
        """For ever, also after the database's server was started again."""
        pause, told = _FIRST_PAUSE_S, ""
        while True:
            heard, error = await self._listen()
            pause = _FIRST_PAUSE_S if heard else min(_LONGEST_PAUSE_S, pause * 2)
            if heard or error != told:
                log.warning("Open vSwitch's database is not watched", error=error, next_try_s=pause)
            told, self._missed = error, True
            await asyncio.sleep(pause)

    async def _listen(self) -> tuple[bool, str]:
        """Until the client ends. Returns whether it said anything, and why it ended."""
        if (program := shutil.which("ovsdb-client")) is None:
            return False, "ovsdb-client is missing on this node; install openvswitch-switch"
        argv = [program, "--format=json", "monitor", "Open_vSwitch", "Port", ",".join(MONITORED)]
        # An agent that is killed cannot end it, and it would notice only when there is something to be told.
        process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "TERM", *argv,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        heard = False
        try:
            while line := await process.stdout.readline():
                self._take(line)
                heard = True
            complaint = await process.stderr.read(_COMPLAINT_BYTES)
            return heard, complaint.decode(errors="replace").strip() or "ovsdb-client ended"
        except (TransientError, ValueError) as error:  # the latter: a line without an end
            return heard, str(error)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _take(self, line: bytes) -> None:
        changes = {change.name: change.columns for change in parse_changes(line)}
        if self._missed:
            self._missed = False
            for vm in self._wanted:
                self._due(vm, Cause.SWITCH, True)
        for name in changes.keys() & self._owners.keys():
            owner, columns = self._owners[name], changes[name]
            # Our own doing ends with what is wanted: it makes nothing due.
            if columns is None or differing(self._wanted[owner][name], columns):
                self._due(owner, Cause.SWITCH, False)
