"""What is measured of VMs and nodes, for monitoring and metrics. Values; bytes unless named otherwise."""

from dataclasses import dataclass

from onedock.reconcilers.model import VmId


@dataclass(frozen=True, slots=True)
class VmUsage:
    """Counters of one VM, read from cgroup files and links (cumulative unless named otherwise)."""

    vm: VmId
    cpu_ns: int = 0
    memory_bytes: int = 0
    net_rx_bytes: int = 0
    net_tx_bytes: int = 0
    disk_read_bytes: int = 0
    disk_write_bytes: int = 0
    disk_read_ops: int = 0
    disk_write_ops: int = 0


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What does not change while a node is up."""

    hostname: str
    arch: str
    model: str
    cpus: int
    cpu_mhz: int
    memory_bytes: int
    kernel: str
    cgroup_version: int


@dataclass(frozen=True, slots=True)
class HostUsage:
    """A node's load at one moment. CPU is in percent of one core times 100 per core, as OpenNebula counts."""

    cpu_used_percent: float
    memory_used_bytes: int
    net_rx_bytes: int
    net_tx_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int
