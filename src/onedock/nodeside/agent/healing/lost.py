"""Namespaces whose names went while no agent held them: they are found by the containers that live in them."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from onedock.nodeside.agent import namespaces
from onedock.reconcilers.model import ContainerId, VmId, namespace_name

_CONTAINER = re.compile(r"[0-9a-f]{64}")
_PROC = Path("/proc")


def put_names_back(containers: Mapping[ContainerId, VmId]) -> tuple[VmId, ...]:
    """Give the namespaces of running containers their names again where these are missing or stand for others.

    Blocking: looks at every process once. Returns the VMs concerned.
    """
    home = (_PROC / "self/ns/net").stat().st_ino
    named = []
    for vm, process in sorted(_first_processes(containers).items()):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            descriptor = os.open(process / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                identity = namespaces.identity(descriptor)
                # A container that is being made has not left the node's own namespace yet.
                if identity[1] != home and not namespaces.is_at(namespace_name(vm), identity):
                    namespaces.put_back(namespace_name(vm), descriptor)
                    named.append(vm)
            finally:
                os.close(descriptor)
    return tuple(named)


def _first_processes(containers: Mapping[ContainerId, VmId]) -> dict[VmId, Path]:
    """The process of each VM with the lowest id, found by the container's id in the name of its cgroup."""
    found: dict[VmId, Path] = {}
    for number in sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()):
        process = _PROC / str(number)
        with suppress(OSError):
            for container in _CONTAINER.findall((process / "cgroup").read_text()):
                if (vm := containers.get(ContainerId(container))) is not None:
                    found.setdefault(vm, process)
    return found
