"""What a test must know about processes, mounts and control groups of this machine, read from /proc."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
RUN = f"odt-{os.getpid()}"
"""Begins the name of every directory, namespace and control group that this test run makes."""


def wait_until(condition: Callable[[], bool], *, within: float, what: str) -> None:
    """Block until ``condition`` holds; TimeoutError names ``what`` after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within} s: {what}")
        time.sleep(0.02)


def pids() -> Iterator[int]:
    """Every process id of this machine."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def command_line(pid: int) -> list[str]:
    """Its argument vector; empty when it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def program(pid: int) -> str:
    """Its program's name; empty when it is gone, a zombie, or about to become another program."""
    argv = command_line(pid)
    return Path(argv[0]).name if argv else ""


def parent(pid: int) -> int:
    """Its parent's id; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def alive(pid: int) -> bool:
    """Whether it exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def descendants(root: int) -> list[int]:
    """Its children, grandchildren and so on, the nearest first."""
    parents = {pid: parent(pid) for pid in pids()}
    found = [root]
    for ancestor in found:
        found += [pid for pid, its_parent in parents.items() if its_parent == ancestor]
    return found[1:]


def shims(containerd_address: str | None = None) -> list[int]:
    """The containerd shims of this machine, or only those that report to one containerd."""
    found = []
    for pid in pids():
        argv = command_line(pid)
        if not argv or not Path(argv[0]).name.startswith("containerd-shim"):
            continue
        if containerd_address is None or containerd_address in argv:
            found.append(pid)
    return found


def kill_now(pid: int) -> None:
    """SIGKILL a process and wait until it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait_until(lambda: not alive(pid), within=10, what=f"process {pid} is gone")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def end(process: subprocess.Popen[bytes], *, grace: float = 10.0) -> None:
    """SIGTERM a child, SIGKILL it after ``grace`` seconds, and reap it."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def listens(path: Path) -> bool:
    """Whether somebody accepts connections on a unix socket: its file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def bound_sockets(pid: int) -> list[Path]:
    """Unix sockets with a path that this process holds open."""
    inodes = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
        rows = Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]
    except OSError:
        return []
    fields = [row.split(maxsplit=7) for row in rows]
    return [Path(row[7]) for row in fields if len(row) == 8 and row[6] in inodes and row[7].startswith("/")]


def mounts_below(directory: Path) -> list[str]:
    """Mount points below a directory, the deepest and newest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if Path(point).is_relative_to(directory)]


def remove_cgroups(name: str) -> None:
    """Remove a control group of this name and all groups in it from every hierarchy."""
    for top in [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.is_dir()]:
        for directory, _, _ in os.walk(top, topdown=False):
            wait_until(partial(_removed, Path(directory)), within=10, what=f"{directory} is empty")


def _removed(cgroup: Path) -> bool:
    try:
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # busy: its last process has died but is not yet gone
        return False
    return True


def remove_tree(directory: Path) -> None:
    """Unmount what is mounted below a directory, and remove it."""
    for point in mounts_below(directory):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
    shutil.rmtree(directory, ignore_errors=False)
