"""A real Open vSwitch with the kernel's datapath, in a network namespace that plays the node. In the guest only."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

from tests.support import plumbing, processes

from onedock.reconcilers.model import Nic, VmId
from onedock.reconcilers.nic_parts import OvsPort, Switch

BRIDGE = "odt-ovs0"
_RUN = Path("/run/openvswitch")
"""Where ovs-vsctl looks for the database."""


def address(vm: VmId) -> str:
    """The address of ``nic(vm)``."""
    return f"10.77.0.{vm % 250}"


def nic(vm: VmId, *, tag: int | None = None, trunks: tuple[int, ...] = (), **changes: Any) -> Nic:
    """A NIC on the switch's bridge."""
    fields = {"addresses": (f"{address(vm)}/16",), "switch": Switch.OPENVSWITCH, "ovs": OvsPort(tag, trunks)}
    return plumbing.nic(vm, **{"bridge": BRIDGE, **fields, **changes})


class GuestSwitch:
    """``with GuestSwitch("node1") as switch:`` starts database and daemon; both end with it."""

    def __init__(self, netns: str) -> None:
        self._netns = netns
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        _RUN.mkdir()
        self._directory = Path(tempfile.mkdtemp(prefix=f"{processes.RUN}-ovs-", dir="/var/tmp"))
        try:
            database = self._directory / "conf.db"
            schema = "/usr/share/openvswitch/vswitch.ovsschema"
            subprocess.run(["ovsdb-tool", "create", str(database), schema], check=True)
            self._start_database()
            self.vsctl("--no-wait", "init")
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            processes.end(process)
        shutil.rmtree(_RUN)
        processes.remove_tree(self._directory)

    def start(self) -> None:
        """Start the daemon (again)."""
        self._daemon = self._start("ovs-vswitchd", f"unix:{_RUN}/db.sock")

    def stop(self) -> None:
        """End the daemon; the database stays, and so does what the kernel was told."""
        processes.end(self._daemon)

    def restart_database(self) -> None:
        """End the database's server and start it again; the daemon finds it by itself."""
        processes.end(self._database)
        self._start_database()

    def vsctl(self, *words: str) -> str:
        """Output of ovs-vsctl."""
        done = subprocess.run(
            ["ovs-vsctl", "--timeout=20", *words], check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip()

    def bridges(self) -> dict[str, set[str]]:
        """Ports by bridge."""
        return {name: set(self.vsctl("list-ports", name).split()) for name in self.vsctl("list-br").split()}

    def port(self, name: str) -> dict[str, Any]:
        """The columns of a port that a VLAN depends on."""
        columns = "tag,trunks,vlan_mode,cvlans"
        shown = json.loads(self.vsctl("--format=json", f"--columns={columns}", "list", "Port", name))
        return dict(zip(shown["headings"], shown["data"][0], strict=True))

    def _start_database(self) -> None:
        self._database = self._start("ovsdb-server", str(self._directory / "conf.db"), f"--remote=punix:{_RUN}/db.sock")
        processes.wait_until((_RUN / "db.sock").exists, within=20, what="ovsdb-server listens")

    def _start(self, *argv: str) -> subprocess.Popen[bytes]:
        command = ["nsenter", f"--net=/run/netns/{self._netns}", *argv, "--pidfile"]
        environment = {**os.environ, "OVS_LOGDIR": str(self._directory)}
        with (self._directory / "log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self._started.append(process)
        return process
