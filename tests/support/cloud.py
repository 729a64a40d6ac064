"""A whole cloud of one node: embedded OpenNebula, drivers, controller, agent, registry and engine as real processes.

Everything lives in one directory; the node (engine, agent, bridges, VM namespaces) in the engine's network namespace.
"""

import asyncio
import contextlib
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import processes
from tests.support.engine import EngineApiError, PrivateEngine
from tests.support.images import IGNORES_TERM, Image, write_docker_archive
from tests.support.opennebula import EmbeddedOpenNebula
from tests.support.registry import PrivateRegistry
from tests.support.waiting import eventually

from onedock.cli.client import ApiError, get_json
from onedock.controller.driver.layout import lay_out
from onedock.lab.opennebula.states import LcmState, VmState
from onedock.nodeside.remote import AgentClient

NODE = "node1"
BRIDGE = "odtbr0"
GATEWAY = "10.77.0.1"
BIN = Path(sys.executable).parent

_FIRST_VMS = itertools.count(100_000 + os.getpid() % 8000 * 100, 10)

_SETTINGS = """
[controller]
driver_socket = "{driver_socket}"
api_socket = "{directory}/api.sock"
state_dir = "{directory}/controller"
stop_grace_s = 1
resync_s = 5
orphan_grace_s = 2
deadline_s = 60

[opennebula]
endpoint = "{endpoint}"
auth_file = "{auth}"
remotes_dir = "{directory}/remotes"
state_guard_s = {guard}

[registry]
address = "{registry}"
tls = false
insecure_sources = ["{registry}"]

[agent]
socket = "{directory}/agent.sock"
state_dir = "{directory}/agent"
runtime_dir = "{runtime_dir}"
engine_root = "{engine_root}"

[monitor]
host_s = 1
vm_s = 1
system_s = 5
beacon_s = 1
failure_after_s = {failure_after}

[log]
level = "debug"

[nodes.{node}]
engine = "{engine}"
agent = "{agent_socket}"
"""


class Daemon:
    """One process of ONEDock, that can be killed and started again.

    Attributes:
        source: directory of the package ``onedock`` from which its next start runs; None: the installed one.
    """

    def __init__(self, name: str, argv: list[str], *, directory: Path, ready: Path) -> None:
        self._argv = argv
        self._log = directory / f"{name}.log"
        self._environment = os.environ | {"ONEDOCK_CONFIG": str(directory / "onedock.toml")}
        self._ready = ready
        self.source: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def log_text(self) -> str:
        """Everything it has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start it, and wait until it listens on its socket."""
        self._ready.unlink(missing_ok=True)
        environment = self._environment | ({"PYTHONPATH": str(self.source)} if self.source else {})
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        try:
            processes.wait_until(
                lambda: processes.listens(self._ready) or not self.alive, within=30, what=f"it listens on {self._ready}"
            )
            assert self.alive, "it ended at once"
        except BaseException as error:
            error.add_note(self.log_text()[-4000:])
            raise

    def kill(self) -> None:
        """SIGKILL it and wait for its end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM it and wait for its end."""
        if self._process is not None:
            processes.end(self._process)


class Cloud:
    """``async with Cloud(engine, registry) as cloud:`` has an OpenNebula with a host, a datastore and a network.

    Args:
        guard_s: length of oned's guard against pushed states, in this OpenNebula.
        failure_after_s: how long the node must fail before OpenNebula is told.
        engine_url, agent_socket: how the controller reaches the node, for tests that put something in between.
        driver_socket: how the drivers reach the controller, likewise.
    """

    def __init__(
        self,
        engine: PrivateEngine,
        registry: PrivateRegistry,
        *,
        guard_s: float = 30.0,
        failure_after_s: float = 2.0,
        engine_url: str = "",
        agent_socket: Path | None = None,
        driver_socket: Path | None = None,
        settings: str = "",
    ) -> None:
        self.engine = engine
        self.registry = registry
        self._guard_s = guard_s
        self._failure_after_s = failure_after_s
        self._engine_url = engine_url or engine.url
        self._more_settings = settings
        self._first_vm = next(_FIRST_VMS)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{processes.RUN}-cloud-", dir="/var/tmp"))
        self.remotes = self.directory / "remotes"
        self.api = self.directory / "api.sock"
        self.driver_socket = self.directory / "driver.sock"
        self._agent_socket = agent_socket or self.directory / "agent.sock"
        python = sys.executable
        in_node = ["nsenter", f"--net=/run/netns/{engine.netns}", "--"]
        self.controller = Daemon(
            "controller", [python, "-m", "onedock.controller"], directory=self.directory, ready=self.api
        )
        self.agent = Daemon(
            "agent",
            [*in_node, python, "-m", "onedock.nodeside.agent"],
            directory=self.directory,
            ready=self.directory / "agent.sock",
        )
        socket = driver_socket or self.driver_socket
        self.one = EmbeddedOpenNebula(
            self.directory / "one",
            vmm=f"{BIN / 'onedock-vmm'} --socket {socket}",
            im=f"{BIN / 'onedock-im'} --socket {socket}",
            remotes=self.remotes,
            options=["--guard", str(guard_s), "--no-scheduler", "--host-interval", "10"],
            environment={"ONEDOCK_DRIVER_SOCKET": str(socket)},
        )

    async def __aenter__(self) -> Self:
        """Start everything and wait until the host is monitored."""
        try:
            lay_out(self.remotes)
            for command in (
                ["link", "add", BRIDGE, "type", "bridge"],
                ["address", "add", f"{GATEWAY}/24", "dev", BRIDGE],
                ["link", "set", BRIDGE, "up"],
            ):
                self.engine.run_in_netns(["ip", *command])
            self._number_vms_from(self._first_vm)
            self._write_settings()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.one.__aenter__())
                group.create_task(asyncio.to_thread(self.agent.start))
            await asyncio.to_thread(self.controller.start)
            await self._furnish()
        except BaseException as error:
            error.add_note(self.story())
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything and remove what is left of the VMs."""
        if error is not None:
            error.add_note(self.story())
        await asyncio.to_thread(self.controller.stop)
        await self.one.stop()
        await self._remove_vms()
        await asyncio.to_thread(self.agent.stop)
        processes.remove_tree(self.directory)

    def _number_vms_from(self, first: int) -> None:
        """Namespaces are named after VM ids for the whole machine: runs side by side need ids of their own."""
        self.one.directory.mkdir()
        with contextlib.closing(sqlite3.connect(self.one.directory / "one.db", isolation_level=None)) as state:
            state.execute("CREATE TABLE last_id (kind TEXT PRIMARY KEY, next INT)")
            state.execute("INSERT INTO last_id VALUES ('Vm', ?)", (first,))

    def story(self) -> str:
        """The ends of all logs, for a failed test."""
        parts = [f"--- controller\n{self.controller.log_text()[-6000:]}", f"--- agent\n{self.agent.log_text()[-2000:]}"]
        return "\n".join(parts)

    def _write_settings(self) -> None:
        text = _SETTINGS.format(
            directory=self.directory,
            endpoint=self.one.endpoint,
            auth=self.one.auth_file,
            registry=self.registry.address,
            runtime_dir=self.engine.runtime_dir,
            engine_root=self.engine.data_root,
            engine=self._engine_url,
            agent_socket=self._agent_socket,
            driver_socket=self.driver_socket,
            guard=self._guard_s,
            failure_after=self._failure_after_s,
            node=NODE,
        )
        (self.directory / "onedock.toml").write_text(text + self._more_settings)

    async def _furnish(self) -> None:
        await self.one.call("one.host.allocate", NODE, "onedock", "onedock", -1)
        self.system_ds = await self.one.new_system_datastore()
        self.image_ds = await self.one.new_image_datastore()
        network = f"""NAME="private"
VN_MAD="bridge"
BRIDGE="{BRIDGE}"
NETWORK_ADDRESS="10.77.0.0"
NETWORK_MASK="255.255.255.0"
GATEWAY="{GATEWAY}"
DNS="{GATEWAY}"
AR=[TYPE="IP4", IP="10.77.0.10", SIZE="200"]"""
        self.network = await self.one.call("one.vn.allocate", network, -1)
        await self.one.wait_for_host(0)

    async def image(self, name: str, image: Image = IGNORES_TERM, *, more: str = "") -> int:
        """Push an image into the registry and register it; returns its id when it is READY."""
        archive = self.directory / f"{name}.tar"
        await asyncio.to_thread(write_docker_archive, archive, image, tag=f"{name}:1")
        await asyncio.to_thread(self.registry.push, archive, f"source/{name}:1")
        archive.unlink()
        template = f'NAME="{name}"\nTYPE="OS"\nPATH="docker://{self.registry.address}/source/{name}:1"\n{more}'
        image_id: int = await self.one.call("one.image.allocate", template, self.image_ds, False)
        await self.one.wait_for_image(image_id)
        return image_id

    async def vm(self, image_id: int, *, name: str = "vm", more: str = "", nic: bool = True, memory: int = 64) -> int:
        """Create a VM and deploy it, without waiting; returns its id."""
        nics = f'NIC=[NETWORK_ID="{self.network}"]\nCONTEXT=[NETWORK="YES"]\n' if nic else ""
        template = f'NAME="{name}"\nCPU="0.5"\nMEMORY="{memory}"\nDISK=[IMAGE_ID="{image_id}"]\n{nics}{more}'
        vm: int = await self.one.call("one.vm.allocate", template, True)
        await self.deploy(vm)
        return vm

    async def deploy(self, vm: int) -> None:
        """Deploy a VM on the node."""
        await self.one.call("one.vm.deploy", vm, 0, False, self.system_ds, "")

    async def running_vm(self, image_id: int, **options: Any) -> int:
        """Create a VM and wait until OpenNebula shows it RUNNING."""
        vm = await self.vm(image_id, **options)
        await self.reaches(vm, LcmState.RUNNING)
        return vm

    async def reaches(self, vm: int, state: VmState | LcmState, *, within: float = 30.0) -> None:
        """Wait until OpenNebula shows a VM in a state, or ACTIVE in an LCM state."""
        await self.one.wait_for_vm(vm, state, within=within)

    async def action(self, vm: int, action: str) -> None:
        """``onevm <action>``."""
        await self.one.call("one.vm.action", action, vm)

    def container(self, vm: int) -> dict[str, Any] | None:
        """What the engine shows of a VM's container, past all code under test."""
        found = self.engine.api("GET", f'/containers/json?all=1&filters={{"label":["org.onedock.vm={vm}"]}}')
        assert len(found) <= 1, f"VM {vm} has {len(found)} containers"
        try:
            inspected: dict[str, Any] | None = (
                self.engine.api("GET", f"/containers/{found[0]['Id']}/json") if found else None
            )
        except EngineApiError as error:
            if error.status != 404:
                raise
            return None  # removed since the list was made
        return inspected

    def run_in(self, vm: int, *argv: str) -> str:
        """Run a command in the VM's container; returns its standard output."""
        container = self.container(vm)
        assert container is not None
        pid = container["State"]["Pid"]
        command = ["nsenter", "--target", str(pid), "--mount", "--net", "--uts", "--pid", "--root", *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def pings(self, address: str) -> bool:
        """Whether an address answers from the node."""
        try:
            self.engine.run_in_netns(["busybox", "ping", "-c", "1", "-W", "1", address])
        except subprocess.CalledProcessError:
            return False
        return True

    def namespaces(self) -> set[str]:
        """Names of the VM namespaces of this machine."""
        return {path.name for path in Path("/run/netns").glob("one-*")}

    def links(self) -> set[str]:
        """Names of the node's links."""
        shown = json.loads(self.engine.run_in_netns(["ip", "-j", "link"]).stdout)
        return {link["ifname"] for link in shown}

    async def onedock(self, *argv: str) -> str:
        """Standard output of the command. AssertionError has what it complains of when it fails."""
        command = [sys.executable, "-c", "from onedock.cli.main import app; app()", *argv]
        environment = os.environ | {"ONEDOCK_CONFIG": str(self.directory / "onedock.toml")}
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def view(self, target: str) -> Any:
        """An answer of the controller's API."""
        return get_json(self.api, target)

    async def settled(self) -> None:
        """Wait until the controller has nothing to do and nothing to deliver."""

        def idle() -> bool:
            try:
                health = self.view("/health")
                busy = any(vm["busy"] or vm["error"] for vm in self.view("/vms"))
            except ApiError:
                return False
            return health["undelivered"] == 0 and health["due"] == 0 and not busy

        await eventually(idle, within=30, what="the controller is idle")

    async def _remove_vms(self) -> None:
        """What a failed test left: containers with our label and their networks, so that one failure stays one."""
        for container in self.engine.api("GET", '/containers/json?all=1&filters={"label":["org.onedock.vm"]}'):
            self.engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        if self.agent.alive:
            async with AgentClient(self.directory / "agent.sock") as agent:
                for vm in await agent.list_vms():
                    await agent.remove(vm)
        if BRIDGE in self.links():
            self.engine.run_in_netns(["ip", "link", "delete", BRIDGE])
