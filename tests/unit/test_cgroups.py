"""Counters of VMs and of the node, read from copied trees of /proc and /sys: both cgroup versions."""

import os
from pathlib import Path

import pytest

from onedock.nodeside.agent import cgroups
from onedock.nodeside.agent.cgroups import BlockIo, Traffic, cgroup_version, parse_membership, read_usage
from onedock.nodeside.agent.host import HostMeter, read_facts
from onedock.reconcilers.measures import VmUsage
from onedock.reconcilers.model import ContainerId, VmId

VM = VmId(22004)
CONTAINER = ContainerId("0123456789abcdef" * 4)
NET_DEV = """Inter-|   Receive                                            |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:     999       9    0    0    0     0          0         0      999       9    0    0    0     0       0 0
  eth0:    1500      10    0    0    0     0          0         0     2500      11    0    0    0     0       0 0
  eth1: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0
"""
EXPECTED = VmUsage(
    vm=VM,
    cpu_ns=123_456_000,
    memory_bytes=6000,
    net_rx_bytes=1510,
    net_tx_bytes=2520,
    disk_read_bytes=4096 + 1,
    disk_write_bytes=8192 + 2,
    disk_read_ops=3 + 1,
    disk_write_ops=4 + 1,
)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    group = f"sys/fs/cgroup/system.slice/docker-{CONTAINER}.scope"
    io = "8:0 rbytes=4096 wbytes=8192 rios=3 wios=4 dbytes=9 dios=9\n252:0 rbytes=1 wbytes=2 rios=1 wios=1\n"
    files = {
        "proc/41/cgroup": f"0::/system.slice/docker-{CONTAINER}.scope/init\n",
        "proc/41/net/dev": NET_DEV,
        "sys/fs/cgroup/cgroup.controllers": "cpu io memory\n",
        f"{group}/cpu.stat": "usage_usec 123456\nuser_usec 100000\nsystem_usec 23456\n",
        f"{group}/memory.current": "10000\n",
        f"{group}/memory.stat": "anon 1\ninactive_file 4000\nactive_file 2\n",
        f"{group}/io.stat": io,
    }
    write(tmp_path, files)
    return tmp_path


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    group = f"docker/{CONTAINER}"
    lines = [f"{number}:{name}:/{group}" for number, name in enumerate(("cpu", "cpuacct", "memory", "blkio,x"))]
    blkio = f"sys/fs/cgroup/blkio/{group}/blkio.throttle"
    service_bytes = "8:0 Read 4096\n8:0 Write 8192\n9:1 Read 1\n9:1 Write 2\n8:0 Total 9\nTotal 9\n"
    files = {
        "proc/41/cgroup": "\n".join([*lines, "9:name=systemd:/", "0::/"]) + "\n",
        "proc/41/net/dev": NET_DEV,
        "sys/fs/cgroup/unified/cgroup.controllers": "",
        f"sys/fs/cgroup/cpuacct/{group}/cpuacct.usage": "123456000\n",
        f"sys/fs/cgroup/memory/{group}/memory.usage_in_bytes": "10000\n",
        f"sys/fs/cgroup/memory/{group}/memory.stat": "cache 5000\ninactive_file 1\ntotal_inactive_file 4000\n",
        f"{blkio}.io_service_bytes_recursive": service_bytes,
        f"{blkio}.io_serviced_recursive": "8:0 Read 3\n8:0 Write 4\n9:1 Read 1\n9:1 Write 1\nTotal 9\n",
    }
    write(tmp_path, files)
    return tmp_path


def test_version_1(v1: Path) -> None:
    assert cgroup_version(v1) == 1
    assert read_usage(v1, VM, CONTAINER, 41) == EXPECTED


def test_version_2_and_the_groups_that_a_container_makes_below_its_own(v2: Path) -> None:
    assert cgroup_version(v2) == 2
    assert read_usage(v2, VM, CONTAINER, 41) == EXPECTED


def test_a_controller_that_is_off_counts_nothing(v2: Path) -> None:
    (v2 / f"sys/fs/cgroup/system.slice/docker-{CONTAINER}.scope/io.stat").unlink()
    usage = read_usage(v2, VM, CONTAINER, 41)
    assert usage is not None
    assert (usage.disk_read_bytes, usage.disk_write_ops) == (0, 0)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_who_is_gone_or_has_another_owner_is_left_out(version: str, request: pytest.FixtureRequest) -> None:
    root: Path = request.getfixturevalue(version)
    assert read_usage(root, VM, CONTAINER, 42) is None
    assert read_usage(root, VM, ContainerId("f" * 64), 41) is None
    (root / "proc/41/cgroup").write_text(f"0::/../../{CONTAINER}\n5:memory:/../{CONTAINER}\n")
    assert read_usage(root, VM, CONTAINER, 41) is None
    (root / "proc/41/cgroup").write_text("nonsense\n")
    assert read_usage(root, VM, CONTAINER, 41) is None


def test_memory_is_never_negative(v2: Path) -> None:
    (v2 / f"sys/fs/cgroup/system.slice/docker-{CONTAINER}.scope/memory.current").write_text("10\n")
    usage = read_usage(v2, VM, CONTAINER, 41)
    assert usage is not None
    assert usage.memory_bytes == 0


def test_membership_of_joined_controllers() -> None:
    text = f"3:cpu,cpuacct:/docker/{CONTAINER}\n2:pids:/\n1:name=systemd:/docker/{CONTAINER}/a/b\n"
    group = f"docker/{CONTAINER}"
    assert parse_membership(text, CONTAINER) == {"cpu": group, "cpuacct": group, "name=systemd": group}


def test_traffic_of_chosen_links() -> None:
    assert cgroups.parse_net_dev(NET_DEV, only={"eth1"}) == Traffic(10, 20)
    assert cgroups.parse_io_stat("") == BlockIo()


STAT = "cpu  {} 0 50 {} 10 0 5 5 0 0\ncpu0 1 2 3\n"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    files = {
        "proc/stat": STAT.format(100, 1000),
        "proc/meminfo": "MemTotal:    2000 kB\nMemFree:  100 kB\nMemAvailable:    500 kB\nHugePages_Total:  0\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Fast: 9000\ncpu MHz\t\t: 2399.6\n\nprocessor\t: 1\n",
        "proc/net/dev": NET_DEV,
        "sys/class/net/eth0/device/vendor": "0x1",
        "sys/class/net/eth1/mtu": "1500",
    }
    write(tmp_path, files)
    return tmp_path


def test_load_of_the_node_is_measured_between_two_calls(node: Path) -> None:
    meter = HostMeter(node, node / "not/yet/there")
    (node / "proc/stat").write_text(STAT.format(150, 1050))
    usage = meter.read()
    assert usage.cpu_used_percent == 50.0 * (os.cpu_count() or 1)
    assert usage.memory_used_bytes == 1500 * 1024
    assert (usage.net_rx_bytes, usage.net_tx_bytes) == (1500, 2500)
    assert usage.disk_total_bytes > usage.disk_free_bytes > 0
    assert meter.read().cpu_used_percent == usage.cpu_used_percent, "no tick has passed"

    (node / "proc/stat").write_text(STAT.format(150, 2050))
    assert meter.read().cpu_used_percent == 0.0


def test_facts_of_the_node(node: Path) -> None:
    facts = read_facts(node)
    assert (facts.model, facts.cpu_mhz, facts.memory_bytes, facts.cgroup_version) == ("Fast: 9000", 2400, 2048000, 1)


def test_facts_and_load_of_this_machine() -> None:
    facts = read_facts(Path("/"))
    usage = HostMeter(Path("/"), Path("/")).read()
    assert facts.cpus > 0
    assert 0 < usage.memory_used_bytes < facts.memory_bytes
