"""The node's fitness, read and tried on the spot. Blocking, for threads; changes nothing that stays."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from onedock import __version__
from onedock.nodeside.agent.cgroups import cgroup_version
from onedock.nodeside.agent.dhcp.client import find_program
from onedock.nodeside.agent.firewall import kernel
from onedock.nodeside.agent.firewall.ruleset import guard_of_loopback
from onedock.nodeside.checkup import Checkup

_MODULES = ("veth", "bridge")
_PROGRAM_S = 5.0
_TRIAL_BYTES = 4096


def examine(root: Path, places: Sequence[Path], engine_root: Path) -> Checkup:
    """The node's state; ``root`` is the parent of ``proc`` and ``sys``, ``places`` are to be writable."""
    disk = shutil.disk_usage(places[0])
    return Checkup(
        version=__version__,
        time=time.time(),
        cgroup_version=cgroup_version(root),
        missing=tuple(name for name in _MODULES if _is_missing(root, name)),
        missing_programs=tuple(_missing_programs()),
        bridge_filtered=_is_on(root / "proc/sys/net/bridge/bridge-nf-call-iptables"),
        forward_dropped=drops_forwarded(_run("nft", "-j", "list", "chains")),
        raw_frames_guarded=_guards_raw_frames(),
        unwritable=tuple(f"{place}: {reason}" for place in places if (reason := _why_not_writable(place))),
        engine_root=os.path.realpath(engine_root),
        disk_total_bytes=disk.total,
        disk_free_bytes=disk.free,
    )


def _missing_programs() -> Iterator[str]:
    if shutil.which("nft") is None:
        yield "nft"
    if not find_program():
        yield "udhcpc"


def _guards_raw_frames() -> bool:
    with contextlib.suppress(OSError):
        return kernel.takes(guard_of_loopback())
    return False  # the kernel has no nftables at all


def drops_forwarded(chains: str) -> bool:
    """Whether a base chain of IPv4's forward hook has the policy drop, by ``nft -j list chains``."""
    try:
        objects: list[dict[str, Any]] = json.loads(chains)["nftables"]
        found = [one["chain"] for one in objects if isinstance(one.get("chain"), dict)]
    except (ValueError, LookupError, TypeError, AttributeError):
        return False  # no nft, or one of another world: nothing is known
    return any(
        chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain.get("family") in {"ip", "inet"}
        for chain in found
    )


def _is_missing(root: Path, module: str) -> bool:
    """A module that is neither loaded nor in the kernel's directory; one built in has no directory always."""
    directory = root / "lib/modules" / os.uname().release
    if (root / "sys/module" / module).exists() or not directory.exists():
        return False
    indexes = [directory / name for name in ("modules.dep", "modules.builtin")]
    return not any(f"/{module}.ko" in index.read_text() for index in indexes if index.exists())


def _is_on(switch: Path) -> bool:
    return switch.exists() and switch.read_text().strip() == "1"


def _run(*argv: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(argv, capture_output=True, text=True, timeout=_PROGRAM_S, check=True).stdout
    return ""


def _why_not_writable(place: Path) -> str:
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".checkup-") as trial:
            trial.write(bytes(_TRIAL_BYTES))
            trial.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""
