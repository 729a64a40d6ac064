"""An OpenNebula for tests: the lab's own, as a real process with the drivers and scripts a test gives it."""

import asyncio
import os
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree

from tests.support.ports import free_ports
from tests.support.processes import end
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState


class CallFailedError(Exception):
    """OpenNebula refused a call: its text and its error code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class EmbeddedOpenNebula:
    """One ``python -m onedock.lab.opennebula``, started on entering and ended on leaving.

    Args:
        directory: Its state; kept over ``restart`` and ``kill9``.
        vmm: VMM driver: executable and arguments.
        im: IM driver: executable and arguments.
        remotes: Directory with ``tm/`` and ``datastore/``.
        options: Further command-line options, for instance ``["--guard", "1"]``.
        environment: Variables for it and its drivers, added to this process's own.
    """

    def __init__(
        self,
        directory: Path,
        *,
        vmm: str,
        im: str,
        remotes: Path,
        options: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.port, self.monitor_port = free_ports(2)
        self.session = "oneadmin:secret"
        self.auth_file = directory / "one_auth"
        self._vmm, self._im, self._remotes = vmm, im, remotes
        self._options = list(options)
        self._environment = os.environ | (environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """URL of the XML-RPC API (ONE_XMLRPC)."""
        return f"http://127.0.0.1:{self.port}/RPC2"

    @property
    def pid(self) -> int:
        """Process id of oned."""
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.auth_file.write_text(f"{self.session}\n")
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts the process and waits until it answers."""
        self._process = self._execute()
        await eventually(self._answers, within=20, what=f"OpenNebula answers, see {self.directory}/process.log")

    def _execute(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "onedock.lab.opennebula", "--dir", str(self.directory)]
        command += ["--port", str(self.port), "--monitor-port", str(self.monitor_port)]
        command += ["--vmm", self._vmm, "--im", self._im, "--remotes", str(self._remotes)]
        command += ["--auth-file", str(self.auth_file), *self._options]
        with (self.directory / "process.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)

    async def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"OpenNebula ended: {(self.directory / 'process.log').read_text()}")
        try:
            return bool(await self.call("one.system.version"))
        except OSError:
            return False

    async def stop(self) -> None:
        """Ends the process in good order."""
        if self._process is not None:
            await asyncio.to_thread(end, self._process)
            self._process = None

    async def kill9(self) -> None:
        """Kills the process; its state stays."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)
        self._process = None

    def set_options(self, *options: str) -> None:
        """Further command-line options from the next start on."""
        self._options += options

    async def restart(self) -> None:
        """Ends the process in good order and starts it on the same state."""
        await self.stop()
        await self.start()

    async def call(self, method: str, *arguments: Any) -> Any:
        """The value of one call.

        Raises:
            CallFailedError: The answer is an error.
        """
        answer = await self.raw_call(method, *arguments)
        if answer[0] is not True:
            raise CallFailedError(answer[1], answer[2])
        return answer[1]

    async def raw_call(self, method: str, *arguments: Any) -> list[Any]:
        """The answer array of one call as it is."""

        def ask() -> list[Any]:
            with xmlrpc.client.ServerProxy(self.endpoint) as server:
                result = getattr(server, method)(self.session, *arguments)
            assert isinstance(result, list)
            return result

        return await asyncio.to_thread(ask)

    async def document(self, method: str, *arguments: Any) -> ElementTree.Element:
        """The parsed document that a call answers."""
        return ElementTree.fromstring(await self.call(method, *arguments))

    async def vm(self, vm_id: int) -> ElementTree.Element:
        """The ``<VM>`` document."""
        return await self.document("one.vm.info", vm_id)

    async def state(self, vm_id: int) -> tuple[VmState, LcmState]:
        """STATE and LCM_STATE of a VM."""
        vm = await self.vm(vm_id)
        return VmState(int(vm.findtext("STATE", "-1"))), LcmState(int(vm.findtext("LCM_STATE", "-1")))

    async def wait_for_vm(self, vm_id: int, wanted: VmState | LcmState, *, within: float = 20) -> None:
        """Waits until the VM is in that state, or ACTIVE in that LCM state."""

        async def reached() -> bool:
            state, lcm = await self.state(vm_id)
            there = state is wanted if isinstance(wanted, VmState) else (state, lcm) == (VmState.ACTIVE, wanted)
            assert there, f"{state.name} {lcm.name}"
            return True

        await eventually(reached, within=within, what=f"VM {vm_id} is {wanted.name}; see {self.vm_log(vm_id)}")

    async def wait_for_image(self, image_id: int, state: int = 1, *, within: float = 20) -> None:
        """Waits until the image is in that STATE (1 = READY)."""

        async def reached() -> bool:
            image = await self.document("one.image.info", image_id)
            assert image.findtext("STATE") == str(state), ElementTree.tostring(image, encoding="unicode")
            return True

        await eventually(reached, within=within, what=f"image {image_id} has STATE {state}")

    async def wait_for_host(self, host_id: int, state: int = 2, *, within: float = 20) -> None:
        """Waits until the host is in that STATE (2 = MONITORED)."""

        async def reached() -> bool:
            return (await self.document("one.host.info", host_id)).findtext("STATE") == str(state)

        await eventually(reached, within=within, what=f"host {host_id} has STATE {state}")

    async def new_system_datastore(self, name: str = "onedock-system") -> int:
        """A system datastore, without which nothing is scheduled."""
        template = f'NAME="{name}"\nTYPE="SYSTEM_DS"\nTM_MAD="onedock"'
        return int(await self.call("one.datastore.allocate", template, -1))

    async def new_image_datastore(self, name: str = "onedock") -> int:
        """An image datastore of ONEDock."""
        return int(await self.call("one.datastore.allocate", f"NAME={name}\nDS_MAD=onedock\nTM_MAD=onedock", -1))

    def vm_log(self, vm_id: int) -> Path:
        """Path of the VM's log."""
        return self.directory / "log" / f"{vm_id}.log"

    @property
    def oned_log(self) -> Path:
        """Path of ``oned.log``."""
        return self.directory / "log" / "oned.log"

    def driver_pid(self, executable: str) -> int:
        """Process id of the driver child whose command line contains ``executable``."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if parent == self.pid and executable in command:
                return int(entry.name)
        raise LookupError(f"oned has no driver {executable}")
