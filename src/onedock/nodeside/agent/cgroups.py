"""A container's counters from its cgroup files, v1 and v2. The engine needs a second or two for the same."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from onedock.reconcilers.measures import VmUsage
from onedock.reconcilers.model import ContainerId, VmId


@dataclass(frozen=True, slots=True)
class BlockIo:
    """Bytes and operations since the cgroup was made, over all devices."""

    read_bytes: int = 0
    write_bytes: int = 0
    read_ops: int = 0
    write_ops: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes since the links were made."""

    received: int = 0
    sent: int = 0


def cgroup_version(root: Path) -> int:
    """2 when the unified hierarchy alone is mounted below ``root``; 1 for the hybrid layout too."""
    return 2 if (root / "sys/fs/cgroup/cgroup.controllers").exists() else 1


def read_usage(root: Path, vm: VmId, container: ContainerId, pid: int) -> VmUsage | None:
    """Counters of a container, found by its first process; ``root`` is the parent of ``proc`` and ``sys``.

    None when the process is gone, or is in no cgroup named after the container: the pid has a new owner then.
    """
    process = root / "proc" / str(pid)
    mounted = root / "sys/fs/cgroup"
    try:
        groups = parse_membership((process / "cgroup").read_text(), container)
        traffic = parse_net_dev((process / "net/dev").read_text())
        if cgroup_version(root) == 2:
            return _read_v2(mounted / groups[""], vm, traffic)
        return _read_v1({name: mounted / name / path for name, path in groups.items()}, vm, traffic)
    except (OSError, KeyError, ValueError):
        return None


def parse_membership(text: str, container: ContainerId) -> dict[str, str]:
    """/proc/<pid>/cgroup as {controller: the container's own cgroup}, ``""`` being the unified hierarchy.

    What the container makes below its cgroup is cut off, and hierarchies that it is not in are left out.
    """
    groups = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        parts = path.strip("/").split("/")
        named = [number for number, part in enumerate(parts) if container in part]
        if named and ".." not in parts:
            for controller in controllers.split(","):
                groups[controller] = "/".join(parts[: named[0] + 1])
    return groups


def parse_net_dev(text: str, only: Container[str] | None = None) -> Traffic:
    """Sums of a net/dev file of /proc, without the loopback, or over the links in ``only``.

    Received bytes are in its first column, sent bytes in its ninth.
    """
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, columns = line.strip().partition(":")
        if name != "lo" if only is None else name in only:
            values = columns.split()
            received += int(values[0])
            sent += int(values[8])
    return Traffic(received, sent)


def parse_flat(text: str) -> dict[str, int]:
    """Lines of ``name number``, as in cpu.stat and memory.stat."""
    return {name: int(value) for name, _, value in (line.partition(" ") for line in text.splitlines())}


def parse_blkio(service_bytes: str, serviced: str) -> BlockIo:
    """The v1 files blkio.throttle.io_service_bytes and io_serviced: lines of ``8:0 Read 4096`` and a total."""

    def total(text: str, operation: str) -> int:
        rows = [line.split() for line in text.splitlines()]
        return sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == operation)

    return BlockIo(
        total(service_bytes, "Read"),
        total(service_bytes, "Write"),
        total(serviced, "Read"),
        total(serviced, "Write"),
    )


def parse_io_stat(text: str) -> BlockIo:
    """The v2 file io.stat: a line of ``8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`` for each device."""
    sums = {"rbytes": 0, "wbytes": 0, "rios": 0, "wios": 0}
    for line in text.splitlines():
        for pair in line.split()[1:]:
            name, _, value = pair.partition("=")
            if name in sums:
                sums[name] += int(value)
    return BlockIo(*sums.values())


def _read_v1(directories: Mapping[str, Path], vm: VmId, traffic: Traffic) -> VmUsage:
    memory = directories["memory"]
    cache = parse_flat((memory / "memory.stat").read_text()).get("total_inactive_file", 0)
    block = BlockIo()
    if blkio := directories.get("blkio"):
        block = parse_blkio(
            _optional(blkio / "blkio.throttle.io_service_bytes_recursive"),
            _optional(blkio / "blkio.throttle.io_serviced_recursive"),
        )
    cpu_ns = int((directories["cpuacct"] / "cpuacct.usage").read_text())
    return _usage(vm, cpu_ns, int((memory / "memory.usage_in_bytes").read_text()) - cache, traffic, block)


def _read_v2(directory: Path, vm: VmId, traffic: Traffic) -> VmUsage:
    cpu_ns = parse_flat((directory / "cpu.stat").read_text())["usage_usec"] * 1000
    cache = parse_flat((directory / "memory.stat").read_text()).get("inactive_file", 0)
    memory = int((directory / "memory.current").read_text()) - cache
    return _usage(vm, cpu_ns, memory, traffic, parse_io_stat(_optional(directory / "io.stat")))


def _optional(file: Path) -> str:
    """Content of a file that exists only where its controller is switched on."""
    return file.read_text() if file.exists() else ""


def _usage(vm: VmId, cpu_ns: int, memory: int, traffic: Traffic, block: BlockIo) -> VmUsage:
    return VmUsage(
        vm=vm,
        cpu_ns=cpu_ns,
        # The page cache that can go at once is not counted: usage and cache are read one after the other.
        memory_bytes=max(0, memory),
        net_rx_bytes=traffic.received,
        net_tx_bytes=traffic.sent,
        disk_read_bytes=block.read_bytes,
        disk_write_bytes=block.write_bytes,
        disk_read_ops=block.read_ops,
        disk_write_ops=block.write_ops,
    )
