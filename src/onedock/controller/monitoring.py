"""What oned shows of hosts and VMs: START_MONITOR answered, beacons, loads and counters sent on time.

Monitoring never changes a VM. A node that does not answer sends nothing, and after a while its host is reported as
failed with the cause (protocol reference 5.4, 5.6).
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from onedock import __version__
from onedock.config.settings import MonitorSettings
from onedock.controller.intake import Link, Links
from onedock.controller.metrics import Metrics
from onedock.controller.nodes import Node, Nodes
from onedock.controller.registry import Registry
from onedock.controller.wire import (
    StartMonitor,
    Value,
    im_message,
    monitor_vm,
    parse_im_line,
    parse_start_monitor,
    template_text,
)
from onedock.reconcilers.errors import OnedockError, TransientError
from onedock.reconcilers.measures import HostFacts, HostUsage, VmUsage
from onedock.reconcilers.model import ContainerId, NodeName, Phase, VmId

log = structlog.get_logger(__name__)

CHECK_S = 10.0
KIB = 1024
MIB = 1024 * 1024


class Monitoring:
    """Feeds monitord.

    Args:
        resync: asks for a comparison soon; a host that monitord starts to watch wants its list.
    """

    def __init__(
        self,
        *,
        settings: MonitorSettings,
        nodes: Nodes,
        registry: Registry,
        links: Links,
        metrics: Metrics,
        resync: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._nodes = nodes
        self._registry = registry
        self._links = links
        self._metrics = metrics
        self._resync = resync
        self._monitord = ("127.0.0.1", 4124)
        self._cpu: dict[VmId, tuple[float, int]] = {}
        self._reported_failed: set[NodeName] = set()

    async def im_line(self, link: Link, line: str) -> None:
        """A line of monitord."""
        try:
            request = parse_im_line(line)
            if request.action == "START_MONITOR":
                await self._start(link, parse_start_monitor(request.payload))
            elif request.action != "STOP_MONITOR":
                log.warning("a line of monitord is unknown", action=request.action[:40])
        except OnedockError as error:
            log.error("a line of monitord cannot be understood", error=str(error), line=line[:80])

    async def _start(self, link: Link, start: StartMonitor) -> None:
        self._monitord = (start.address, start.port)
        now = int(time.time())
        try:
            node = await self._nodes.get(NodeName(start.host_name))
            node.host_id = start.host_id
            await node.check()
            if node.error:
                raise TransientError(node.error)
            system = await self._system_text(node)
        except OnedockError as error:
            log.warning("host cannot be monitored", node=start.host_name, error=str(error))
            link.push(im_message("START_MONITOR", False, start.host_id, now, str(error)))
            return
        log.info("host is monitored", node=start.host_name, host=start.host_id)
        link.push(im_message("START_MONITOR", True, start.host_id, now, ""))
        self._send("SYSTEM_HOST", node, system)
        self._reported_failed.discard(node.name)
        await self._send_usage(node)
        self._resync()

    def _send(self, kind: str, node: Node, text: str, *, ok: bool = True) -> None:
        link = self._links.current("im")
        if link is not None and node.host_id >= 0:
            link.push(im_message(kind, ok, node.host_id, int(time.time()), text))

    async def run(self) -> None:
        """Send everything when it is due, for ever."""
        loop = asyncio.get_running_loop()
        steps = {"beacon": self._settings.beacon_s, "host": self._settings.host_s, "disk": self._settings.disk_s}
        steps |= {"system": self._settings.system_s, "vm": self._settings.vm_s}
        due = dict.fromkeys(steps, loop.time())
        while True:
            now = loop.time()
            kinds = {kind for kind, when in due.items() if when <= now}
            for kind in kinds:
                due[kind] = now + steps[kind]
            await asyncio.gather(*(self._report(node, kinds) for node in self._nodes))
            await asyncio.sleep(min(CHECK_S, *steps.values()))

    async def _report(self, node: Node, kinds: set[str]) -> None:
        """Check one node, and send what is due of it."""
        await node.check()
        self._metrics.node_up.labels(node.name).set(0 if node.error else 1)
        if node.error:
            self._report_failure(node)
            return
        recovered = node.name in self._reported_failed
        self._reported_failed.discard(node.name)
        try:
            if "beacon" in kinds:
                await self._beacon(node)
            if "system" in kinds or recovered:
                self._send("SYSTEM_HOST", node, await self._system_text(node))
            if "host" in kinds or recovered:
                await self._send_usage(node)
            if "vm" in kinds:
                await self._send_vms(node)
            if "disk" in kinds:
                await self._send_disks(node)
        except OnedockError as error:
            log.warning("node cannot be measured", node=node.name, error=str(error))
        if recovered:
            self._resync()

    def _report_failure(self, node: Node) -> None:
        """A host that fails for long: OpenNebula shows why, and its VMs as UNKNOWN."""
        since = node.failing_since or time.time()
        if time.time() - since < self._settings.failure_after_s or node.name in self._reported_failed:
            return
        self._reported_failed.add(node.name)
        log.error("node failed", node=node.name, error=node.error)
        self._send("MONITOR_HOST", node, node.error, ok=False)

    async def _beacon(self, node: Node) -> None:
        """BEACON_HOST is accepted over the network only, not on the driver's pipe (protocol reference trap 32)."""
        if node.host_id < 0:
            return
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=self._monitord)
        except OSError as error:
            log.warning("monitord's address cannot be used", address=self._monitord, error=str(error))
            return
        transport.sendto(im_message("BEACON_HOST", True, node.host_id, int(time.time()), "").encode() + b"\n")
        transport.close()

    async def _system_text(self, node: Node) -> str:
        facts, usage = await asyncio.gather(node.agent.host_facts(), node.agent.host_usage())
        return system_host(facts, usage, engine=node.engine_version)

    async def _send_usage(self, node: Node) -> None:
        facts, usage = await asyncio.gather(node.agent.host_facts(), node.agent.host_usage())
        self._send("MONITOR_HOST", node, monitor_host(facts, usage))

    def _alive(self, node: Node) -> list[tuple[VmId, ContainerId, int]]:
        """(VM, container, pid) of the VMs that had a process at the last look."""
        return [
            (record.vm, record.observed.container.id, record.observed.container.pid)
            for record in self._registry.on_node(node.name)
            if record.observed is not None
            and record.observed.container is not None
            and record.observed.container.phase in {Phase.RUNNING, Phase.PAUSED}
        ]

    async def _send_disks(self, node: Node) -> None:
        """Sizes of root disks, counted one after the other: it is the engine's slowest question."""
        for vm, container, _ in self._alive(node):
            written = await node.engine.layer_bytes(container)
            self._send("MONITOR_VM", node, monitor_vm([(vm, {"DISK_SIZE": {"ID": 0, "SIZE": -(-written // MIB)}})]))

    async def _send_vms(self, node: Node) -> None:
        alive = self._alive(node)
        if not alive:
            return
        usages = await node.agent.vm_usage(alive)
        self._metrics.usage.note(usages)
        now = time.monotonic()
        values = [(usage.vm, vm_values(usage, self._cpu_percent(usage, now))) for usage in usages]
        self._send("MONITOR_VM", node, monitor_vm(values))

    def _cpu_percent(self, usage: VmUsage, now: float) -> float:
        """Percent of one core since the last time; 0 at first."""
        before, cpu_ns = self._cpu.get(usage.vm, (now, usage.cpu_ns))
        self._cpu[usage.vm] = (now, usage.cpu_ns)
        return max(0.0, (usage.cpu_ns - cpu_ns) / 1e7 / (now - before)) if now > before else 0.0


def system_host(facts: HostFacts, usage: HostUsage, *, engine: str) -> str:
    """SYSTEM_HOST: KB for memory, 100 per core for CPU, MB for disks (protocol reference 5.6)."""
    total, free = usage.disk_total_bytes // MIB, usage.disk_free_bytes // MIB
    return template_text({
        "HYPERVISOR": "onedock",
        "HOSTNAME": facts.hostname,
        "ARCH": facts.arch,
        "MODELNAME": facts.model,
        "CPUSPEED": facts.cpu_mhz,
        "TOTALCPU": facts.cpus * 100,
        "TOTALMEMORY": facts.memory_bytes // KIB,
        "VERSION": __version__,
        "KERNEL": facts.kernel,
        "DOCKER_VERSION": engine,
        "CGROUPS_VERSION": facts.cgroup_version,
        "DS_LOCATION_TOTAL_MB": total,
        "DS_LOCATION_USED_MB": total - free,
        "DS_LOCATION_FREE_MB": free,
    })  # fmt: skip


def monitor_host(facts: HostFacts, usage: HostUsage) -> str:
    """MONITOR_HOST."""
    used = round(usage.cpu_used_percent)
    return template_text({
        "USEDCPU": used,
        "FREECPU": max(0, facts.cpus * 100 - used),
        "USEDMEMORY": usage.memory_used_bytes // KIB,
        "FREEMEMORY": max(0, facts.memory_bytes - usage.memory_used_bytes) // KIB,
        "NETRX": usage.net_rx_bytes,
        "NETTX": usage.net_tx_bytes,
    })  # fmt: skip


def vm_values(usage: VmUsage, cpu_percent: float) -> dict[str, Value]:
    """One VM in MONITOR_VM."""
    return {
        "CPU": cpu_percent,
        "MEMORY": usage.memory_bytes // KIB,
        "NETRX": usage.net_rx_bytes,
        "NETTX": usage.net_tx_bytes,
        "DISKRDBYTES": usage.disk_read_bytes,
        "DISKWRBYTES": usage.disk_write_bytes,
        "DISKRDIOPS": usage.disk_read_ops,
        "DISKWRIOPS": usage.disk_write_ops,
    }
