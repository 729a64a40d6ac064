"""What daemons leave on a machine when they did not end well: sockets, mounts, control groups, namespaces."""

import asyncio
import shutil
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

from onedock.lab.layout import Layout
from onedock.lab.processes import wait_until
from onedock.nodeside.agent.networks import NodeNetworks
from onedock.nodeside.agent.store import Store
from onedock.reconcilers.model import VmId

_CGROUPS = Path("/sys/fs/cgroup")
_SHIM_SOCKETS = "s"


def sockets_of(pid: int) -> list[Path]:
    """Sockets with a path in containerd's directory of shims that a process has open."""
    inodes = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
        rows = [row.split(maxsplit=7) for row in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    except OSError:
        return []
    found = [Path(row[7]) for row in rows if len(row) == 8 and row[6] in inodes and row[7].startswith("/")]
    return [path for path in found if path.parent.name == _SHIM_SOCKETS]


def remove_networks(layout: Layout) -> list[VmId]:
    """Namespaces, links and memory of every VM that the lab's agent remembers; returns which there were.

    The agent must not run: this is its own code on its own memory.
    """
    directory = layout.agent_state / "vms"
    if not directory.is_dir():
        return []
    return asyncio.run(_remove_networks(Store(directory), layout.runtime_dir, layout.agent_state / "dhcp"))


async def _remove_networks(store: Store, runtime_dir: Path, leases_dir: Path) -> list[VmId]:
    vms = [kept.network.vm for kept in store]
    networks = NodeNetworks(store, runtime_dir, leases_dir)
    try:
        for vm in vms:
            await networks.remove(vm)
    finally:
        await networks.close()
    return vms


def remove_directories(*directories: Path) -> None:
    """Unmount what is mounted below them, the deepest first, and remove them."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    for directory in directories:
        for point in reversed(points):
            if Path(point).is_relative_to(directory):
                subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
        with suppress(FileNotFoundError):
            shutil.rmtree(directory)


def remove_cgroups(name: str) -> None:
    """Remove a control group and all in it, from every hierarchy."""
    for top in [path for path in (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")) if path.is_dir()]:
        for group in sorted((top, *(path for path in top.rglob("*") if path.is_dir())), reverse=True):
            wait_until(partial(_gone, group), within=10, otherwise=f"{group} has processes; look with ps")


def _gone(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # busy: its last process has died but is not yet gone
        return False
    return True
