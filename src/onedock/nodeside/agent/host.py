"""The node itself: facts that stay while it is up, and its load. From /proc and /sys only."""

import os
import shutil
import socket
from pathlib import Path

from onedock.nodeside.agent.cgroups import cgroup_version, parse_net_dev
from onedock.reconcilers.measures import HostFacts, HostUsage


def read_facts(root: Path) -> HostFacts:
    """Facts of the node; ``root`` is the parent of ``proc`` and ``sys``."""
    system = os.uname()
    processor = parse_cpuinfo((root / "proc/cpuinfo").read_text())
    return HostFacts(
        hostname=socket.gethostname(),
        arch=system.machine,
        model=processor.get("model name", system.machine),
        cpus=os.cpu_count() or 1,
        cpu_mhz=round(float(processor.get("cpu MHz", 0))),
        memory_bytes=parse_meminfo((root / "proc/meminfo").read_text())["MemTotal"],
        kernel=system.release,
        cgroup_version=cgroup_version(root),
    )


class HostMeter:
    """Measures load: the processors' between one call and the one before, all else at the moment."""

    def __init__(self, root: Path, engine_root: Path) -> None:
        """``engine_root`` is the directory whose file system counts as the node's disk."""
        self._root = root
        self._engine_root = engine_root
        self._before = self._processor_time()
        self._percent = 0.0

    def read(self) -> HostUsage:
        """Load now. Two calls within a clock tick show the same load of the processors."""
        busy, total = self._processor_time()
        busy_before, total_before = self._before
        if total > total_before:
            share = max(0, busy - busy_before) / (total - total_before)
            self._percent = round(100 * share * (os.cpu_count() or 1), 1)
            self._before = busy, total
        memory = parse_meminfo((self._root / "proc/meminfo").read_text())
        physical = {link.parent.name for link in (self._root / "sys/class/net").glob("*/device")}
        traffic = parse_net_dev((self._root / "proc/net/dev").read_text(), only=physical)
        disk = shutil.disk_usage(_existing(self._engine_root))
        return HostUsage(
            cpu_used_percent=self._percent,
            memory_used_bytes=memory["MemTotal"] - memory["MemAvailable"],
            net_rx_bytes=traffic.received,
            net_tx_bytes=traffic.sent,
            disk_total_bytes=disk.total,
            disk_free_bytes=disk.free,
        )

    def _processor_time(self) -> tuple[int, int]:
        return parse_stat((self._root / "proc/stat").read_text())


def parse_stat(text: str) -> tuple[int, int]:
    """(busy, total) clock ticks of all processors, from the first line of /proc/stat."""
    # user nice system idle iowait irq softirq steal; guest times are contained in user and nice.
    ticks = [int(column) for column in text.split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    rows = (line.partition(":") for line in text.splitlines())
    return {name: int(value.split()[0]) * 1024 for name, _, value in rows}


def parse_cpuinfo(text: str) -> dict[str, str]:
    """The first processor of /proc/cpuinfo."""
    rows = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in rows}


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that exists: an engine may not have been started yet."""
    while not path.exists():
        path = path.parent
    return path
