"""Counters of a container from the kernel's own second version of control groups."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import processes
from tests.support.kernel import requires

from onedock.nodeside.agent.cgroups import cgroup_version, read_usage
from onedock.nodeside.agent.host import read_facts
from onedock.reconcilers.model import ContainerId, VmId

pytestmark = [pytest.mark.root, requires("cgroup v2")]

VM = VmId(260_021)
CONTAINER = ContainerId("0123456789abcdef" * 4)
ROOT = Path("/")
WORK = """
import os, sys
held = bytearray(b"x") * (32 << 20)
while os.times().user < 0.5:
    pass
with open(sys.argv[1], "wb") as file:
    file.write(bytes(8 << 20))
    file.flush()
    os.fsync(file.fileno())
print("done", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A container's group as the engine with systemd's driver makes it."""
    parent = Path("/sys/fs/cgroup/odt.slice")
    made = parent / f"docker-{CONTAINER}.scope"
    parent.mkdir()
    (parent / "cgroup.subtree_control").write_text("+cpu +io +memory +pids")
    made.mkdir()
    try:
        yield made
    finally:
        made.rmdir()
        parent.rmdir()


def test_what_a_process_used_is_counted(group: Path) -> None:
    assert cgroup_version(ROOT) == 2
    assert read_facts(ROOT).cgroup_version == 2
    file = Path("/root/odt-written")  # on the disk; /tmp is memory
    argv = ["sh", "-c", f'echo $$ >{group}/cgroup.procs; exec python3 -S -c "$0" {file}', WORK]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        usage = read_usage(ROOT, VM, CONTAINER, process.pid)
        assert usage is not None
        assert usage.vm == VM
        assert 0.5e9 <= usage.cpu_ns < 60e9
        assert 32 << 20 <= usage.memory_bytes < 128 << 20
        assert 8 << 20 <= usage.disk_write_bytes < 64 << 20
        assert usage.disk_write_ops > 0
        assert read_usage(ROOT, VM, CONTAINER, os.getpid()) is None, "a process of another group"
    finally:
        processes.end(process)
        file.unlink(missing_ok=True)
        processes.wait_until(lambda: not (group / "cgroup.procs").read_text(), within=10, what="the group is empty")
    assert read_usage(ROOT, VM, CONTAINER, process.pid) is None
