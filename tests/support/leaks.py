"""What a test run must not leave on the machine, as a value that can be compared."""

import json
import os
import subprocess
import threading
from dataclasses import dataclass, fields
from pathlib import Path

from tests.support import processes

PROGRAMS = {
    "dockerd",
    "containerd",
    "docker-registry",
    "onedock-runtime",
    "onedock-agent",
    "onedock-controller",
    "qemu-system-x86_64",
}


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything of interest, each as a set of lines for people."""

    processes: frozenset[str]
    """Shims and daemons."""
    namespaces: frozenset[str]
    """Names in /run/netns that belong to tests or VMs."""
    links: frozenset[str]
    """Links of the machine's own network namespace."""
    mounts: frozenset[str]
    cgroups: frozenset[str]
    directories: frozenset[str]
    threads: frozenset[str]
    """Threads of the test run itself for which its interpreter would wait at the end, for ever."""


def snapshot() -> Traces:
    """Look at the machine now."""
    temporary = [path for root in ("/tmp", "/var/tmp") for path in Path(root).glob("odt-*")]
    return Traces(
        processes=frozenset(_processes()),
        namespaces=frozenset(path.name for path in Path("/run/netns").glob("o*") if _ours(path.name)),
        links=frozenset(_links()),
        mounts=frozenset(str(point) for point in processes.mounts_below(Path("/")) if "/odt-" in point),
        cgroups=frozenset(str(path) for depth in ("", "*/") for path in processes.CGROUPS.glob(f"{depth}odt-*")),
        directories=frozenset(map(str, temporary)),
        threads=frozenset(f"{processes.RUN} {thread.name}" for thread in threading.enumerate() if not thread.daemon),
    )


def assert_nothing_leaked(before: Traces, after: Traces) -> None:
    """AssertionError lists what is in ``after`` and was not in ``before``.

    While another test run is at work on this machine, only what bears this run's mark counts.
    """
    left = {item.name: sorted(getattr(after, item.name) - getattr(before, item.name)) for item in fields(Traces)}
    if _other_runs():
        left = {name: [item for item in items if processes.RUN in item] for name, items in left.items()}
    leaked = {name: items for name, items in left.items() if items}
    assert not leaked, f"left behind: {json.dumps(leaked, indent=1)}"


def _other_runs() -> bool:
    own = os.getpid()
    runs = [pid for pid in processes.pids() if any(Path(word).name == "pytest" for word in _words(pid))]
    return any(pid != own for pid in runs)


def _words(pid: int) -> list[str]:
    """The program and, when that is an interpreter, its script or module."""
    return processes.command_line(pid)[:3]


def _processes() -> list[str]:
    daemons = {pid for pid in processes.pids() if processes.program(pid) in PROGRAMS}
    return [f"{pid} {' '.join(processes.command_line(pid))}" for pid in {*daemons, *processes.shims()}]


def _ours(namespace: str) -> bool:
    prefix, _, rest = namespace.partition("-")
    return prefix == "odt" or (prefix == "one" and rest.isdigit())


def _links() -> list[str]:
    if os.geteuid() != 0:
        return []
    shown = subprocess.run(["ip", "-json", "link"], check=True, capture_output=True, text=True).stdout
    return [link["ifname"] for link in json.loads(shown)]
