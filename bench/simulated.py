"""Nodes without containers: engine and agent of each on unix sockets, with the real answers for unchanged VMs.

They run in a process of their own (``python -m bench.simulated``), so that the controller's is measured alone.
"""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from tests.support import processes

from bench.documents import BenchVm, vm_document
from bench.opennebula import ACTIVE, RUNNING
from onedock.config.settings import ContainerSettings, NetworkSettings
from onedock.controller.documents import parse_vm
from onedock.controller.spec import build_spec
from onedock.controller.xml import parse_xml
from onedock.reconcilers.model import (
    LABEL_INSTANCE,
    LABEL_SPEC,
    LABEL_VM,
    NodeName,
    ObservedNetwork,
    ObservedNic,
    VmSpec,
    container_name,
)

IMAGE = f"registry:5000/onedock/image-0@sha256:{'1' * 64}"
_VERSION = re.compile(r"^/v[0-9.]+")
_STARTED = "2026-01-01T00:00:00.000000000Z"
_FACTS = {
    "hostname": "node", "arch": "x86_64", "model": "x", "cpus": 8, "cpu_mhz": 2000, "memory_bytes": 2**35,
    "kernel": "6.1", "cgroup_version": 2,
}  # fmt: skip
_INFO = {
    "ID": "x", "ServerVersion": "28.5.0", "LiveRestoreEnabled": True, "DockerRootDir": "/var/lib/docker",
    "Runtimes": {"onedock": {"path": "/usr/lib/onedock/onedock-runtime"}}, "CgroupVersion": "2",
    "SystemTime": _STARTED,
}  # fmt: skip
_USAGE = {
    "cpu_used_percent": 1.0, "memory_used_bytes": 2**30, "net_rx_bytes": 0, "net_tx_bytes": 0,
    "disk_total_bytes": 2**40, "disk_free_bytes": 2**39,
}  # fmt: skip


def node_name(index: int) -> str:
    """The name of a simulated node."""
    return f"node-{index}"


def simulated_vms(vms: int, nodes: int) -> list[BenchVm]:
    """VMs spread over nodes in turn."""
    return [BenchVm(1_000_000 + n, n, IMAGE, node=node_name(n % nodes), bridge="br0") for n in range(vms)]


def spec_of(vm: BenchVm) -> VmSpec:
    """What the controller makes of the VM's document."""
    document = parse_vm(parse_xml(vm_document(vm, ACTIVE, RUNNING)))
    return build_spec(
        document,
        node=NodeName(vm.node),
        image_attributes={},
        settings=ContainerSettings(),
        networks_settings=NetworkSettings(),
    )


def container_id(vm: BenchVm) -> str:
    return f"{vm.id:064x}"


class _Node:
    """One engine and one agent."""

    def __init__(self, vms: Iterable[BenchVm]) -> None:
        self._specs = {vm.id: (vm, spec_of(vm)) for vm in vms}
        self._list = json.dumps([self._listed(vm, spec) for vm, spec in self._specs.values()]).encode()

    def _labels(self, spec: VmSpec) -> dict[str, str]:
        digest = spec.container.digest()
        return {LABEL_VM: str(spec.vm), LABEL_INSTANCE: spec.instance, LABEL_SPEC: digest}

    def _listed(self, vm: BenchVm, spec: VmSpec) -> dict[str, Any]:
        return {
            "Id": container_id(vm), "Names": [f"/{container_name(spec.vm)}"], "Image": vm.image,
            "ImageID": f"sha256:{'2' * 64}", "Command": "sleep 86400", "Created": 1767225600, "Ports": [],
            "Labels": self._labels(spec), "State": "running", "Status": "Up 3 days",
            "HostConfig": {"NetworkMode": "none"}, "Mounts": [],
            "NetworkSettings": {"Networks": {"none": {"NetworkID": "3" * 64, "EndpointID": "4" * 64}}},
        }  # fmt: skip

    def _inspected(self, vm: BenchVm, spec: VmSpec) -> dict[str, Any]:
        shares, quota, memory, pids = spec.container.limits()
        return {
            "Id": container_id(vm), "Name": f"/{container_name(spec.vm)}", "Image": f"sha256:{'2' * 64}",
            "State": {"Status": "running", "Running": True, "Pid": 1000, "ExitCode": 0, "OOMKilled": False,
                      "Error": "", "StartedAt": _STARTED, "FinishedAt": "0001-01-01T00:00:00Z"},
            "Config": {"Image": vm.image, "Labels": self._labels(spec),
                       "Env": [f"{name}={value}" for name, value in spec.container.environment]},
            "HostConfig": {"CpuShares": shares, "CpuQuota": quota, "Memory": memory, "PidsLimit": pids},
        }  # fmt: skip

    async def engine(self, request: web.Request) -> web.StreamResponse:
        path = _VERSION.sub("", request.path)
        match path.strip("/").split("/"):
            case ["version"]:
                return web.json_response({"Version": "28.5.0", "ApiVersion": "1.51", "MinAPIVersion": "1.24"})
            case ["_ping"]:
                return web.json_response("OK")
            case ["info"]:
                return web.json_response(_INFO)
            case ["containers", "json"]:
                return web.Response(body=self._list, content_type="application/json")
            case ["containers", name, "json"]:
                known = self._specs.get(int(name.removeprefix("one-"))) if name.startswith("one-") else None
                return web.json_response(self._inspected(*known) if known else {}, status=200 if known else 404)
            case ["images", "json"]:
                return web.json_response([])
            case ["events"]:
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                await response.prepare(request)
                await asyncio.Event().wait()
        return web.json_response({"message": f"no such page: {path}"}, status=404)

    async def agent(self, request: web.Request) -> web.Response:
        match request.path.strip("/").split("/"):
            case ["health"]:
                return web.json_response({"version": "bench", "facts": _FACTS})
            case ["vms"]:
                return web.json_response(list(self._specs))
            case ["vms", vm, "network"]:
                bench_vm, spec = self._specs[int(vm)]
                nics = tuple(ObservedNic(nic, up=True, carrier=True) for nic in spec.network.nics)
                seen = ObservedNetwork(spec.vm, nics, ())
                return web.json_response(asdict(seen) | {"containers": [container_id(bench_vm)]})
            case ["host", "usage"]:
                return web.json_response(_USAGE)
            case ["usage"]:
                return web.json_response(
                    [{"vm": vm, "cpu_ns": 1, "memory_bytes": 1} for vm, *_ in await request.json()]
                )
        return web.json_response({"error": "no such page"}, status=404)


async def _serve(directory: Path, vms: int, nodes: int) -> None:
    everything = simulated_vms(vms, nodes)
    for index in range(nodes):
        node = _Node(everything[index::nodes])
        for name, handler in (("engine", node.engine), ("agent", node.agent)):
            app = web.Application(client_max_size=2**26)
            app.router.add_route("*", "/{path:.*}", handler)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.UnixSite(runner, str(directory / f"{name}-{index}.sock")).start()
    (directory / "ready").touch()
    await asyncio.Event().wait()


class SimulatedNodes:
    """``with SimulatedNodes(directory, vms, nodes) as simulated``: sockets of all nodes, served by a child process."""

    def __init__(self, directory: Path, vms: int, nodes: int) -> None:
        self._directory = directory
        self._argv = [sys.executable, "-m", "bench.simulated", str(directory), str(vms), str(nodes)]
        self.entries = [
            (node_name(n), f"unix://{directory}/engine-{n}.sock", directory / f"agent-{n}.sock") for n in range(nodes)
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._argv)
        processes.wait_until((self._directory / "ready").exists, within=60, what="simulated nodes are ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
