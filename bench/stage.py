"""A real controller with real drivers, on a node that is given: what all benchmarks of a running product share."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tests.support import processes
from tests.support.agent import PrivateAgent
from tests.support.cloud import Daemon
from tests.support.driver_process import NATIVE, DriverProcess
from tests.support.engine import PrivateEngine
from tests.support.images import write_docker_archive
from tests.support.registry import PrivateRegistry

from bench.documents import NETWORK, NODE
from bench.opennebula import MemoryOned
from onedock.cli.client import ApiError, get_json

FIRST_VM = 20_000_000 + os.getpid() % 8000 * 1000
BRIDGE = "bench0"


class Stage:
    """Directory, settings, OpenNebula in memory and the controller.

    Args:
        nodes: name of each node with the addresses of its engine and its agent.
        settings: more TOML.
    """

    def __init__(self, nodes: Iterable[tuple[str, str, Path]], *, settings: str = "") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{processes.RUN}-bench-", dir="/var/tmp"))
        self._nodes = list(nodes)
        self._settings = settings
        self.oned = MemoryOned([name for name, _, _ in self._nodes])
        self.socket = self.directory / "driver.sock"
        self.api = self.directory / "api.sock"
        self.controller = Daemon(
            "controller", [sys.executable, "-m", "onedock.controller"], directory=self.directory, ready=self.api
        )

    async def __aenter__(self) -> Self:
        await self.oned.__aenter__()
        auth = self.directory / "one_auth"
        auth.write_text("oneadmin:secret\n")
        nodes = "".join(
            f'[nodes."{name}"]\nengine = "{engine}"\nagent = "{agent}"\n' for name, engine, agent in self._nodes
        )
        (self.directory / "onedock.toml").write_text(
            f'[controller]\ndriver_socket = "{self.socket}"\napi_socket = "{self.api}"\n'
            f'state_dir = "{self.directory}/controller"\nresync_s = 3600\n'
            f'[opennebula]\nendpoint = "{self.oned.endpoint}"\nauth_file = "{auth}"\n{self._settings}\n{nodes}'
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.controller.log_text()[-4000:])
        await asyncio.to_thread(self.controller.stop)
        await self.oned.__aexit__(None, None, None)
        processes.remove_tree(self.directory)

    def driver(self, kind: str) -> DriverProcess:
        """A driver as oned starts it, after its handshake."""
        return DriverProcess(f"--socket {self.socket}", command=(*NATIVE, kind)).handshake()

    def view(self, target: str) -> Any:
        """An answer of the controller's API; None while it does not answer."""
        try:
            return get_json(self.api, target)
        except ApiError:
            return None


class RealNode:
    """One engine with a bridge network of its own, and one agent, both in the engine's namespace.

    The engine's networking is the cheapest that it has: no iptables. Its bridge is Docker's default one.
    """

    def __init__(self) -> None:
        self.engine = PrivateEngine(options={"bridge": ""})

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.engine)
            for command in (
                ["link", "add", BRIDGE, "type", "bridge"],
                ["address", "add", f"{NETWORK}.0.1/16", "dev", BRIDGE],
                ["link", "set", BRIDGE, "up"],
            ):
                self.engine.run_in_netns(["ip", *command])
            agent = PrivateAgent(netns=self.engine.netns, runtime_dir=self.engine.runtime_dir)
            self.agent = stack.enter_context(agent)
            registry = stack.enter_context(PrivateRegistry(reachable_in=(self.engine.netns,)))
            archive = registry.directory / "image.tar"
            write_docker_archive(archive)
            self.image = registry.push(archive, "onedock/image-0")
            self.engine.api("POST", f"/images/create?fromImage={quote(self.image)}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def entry(self) -> tuple[str, str, Path]:
        """For ``Stage``."""
        return NODE, self.engine.url, self.agent.socket
