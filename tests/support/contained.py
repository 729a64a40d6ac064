"""A process that stands for a container's: in the VM's namespace, and in a cgroup with the container's id."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support import processes
from tests.support.waiting import eventually


@asynccontextmanager
async def contained(container: str, netns: str) -> AsyncIterator[None]:
    """The process lives meanwhile."""
    unified = (processes.CGROUPS / "cgroup.procs").exists()
    group = (processes.CGROUPS if unified else processes.CGROUPS / "pids") / f"odt-{container}"
    there = Path("/run/netns", netns).stat().st_ino
    group.mkdir()
    try:
        argv = ["nsenter", f"--net=/run/netns/{netns}", "sleep", "60"]
        with subprocess.Popen(argv) as process:  # noqa: ASYNC220 - it starts at once
            try:
                (group / "cgroup.procs").write_text(str(process.pid))
                await eventually(lambda: _namespace(process.pid) == there, what="it is in its namespace")
                yield
            finally:
                process.kill()
    finally:
        await eventually(lambda: _gone(group), within=5)


def _namespace(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def _gone(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True
