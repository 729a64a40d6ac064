"""What a node says of its own fitness: answer of ``GET /host/checkup``, for ``onedock doctor``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Checkup:
    """State of a node as its agent sees it."""

    version: str
    """Of the agent's release."""
    time: float
    """Unix time by the node's clock."""
    cgroup_version: int
    missing: tuple[str, ...] = ()
    """Kernel modules that are needed and neither loaded nor to be had."""
    missing_programs: tuple[str, ...] = ()
    """``nft``, ``udhcpc``: what some networks need and the node does not have."""
    bridge_filtered: bool = False
    """Whether frames between ports of one bridge go through the IP filter (br_netfilter)."""
    forward_dropped: bool = False
    """Whether that filter drops what no rule accepts."""
    raw_frames_guarded: bool = True
    """Whether the kernel can hold frames past a VM's IP stack to the security groups (Linux 5.16)."""
    unwritable: tuple[str, ...] = ()
    """Directories of the agent that cannot be written: path and reason."""
    engine_root: str = ""
    """Where the agent looks for the engine's files, links resolved."""
    disk_total_bytes: int = 0
    disk_free_bytes: int = 0
    """Of the file system of the agent's state."""
