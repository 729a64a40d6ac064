"""Which namespace a container starts in: one file per container, which onedock-runtime reads."""

import os
from collections.abc import Iterable
from pathlib import Path

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.resolver import asking
from onedock.nodeside.agent.store import write_atomically
from onedock.reconcilers.model import ContainerId, VmId, namespace_name


class Bindings:
    """Of all containers of a node."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is where onedock-runtime looks; it is made if need be. Raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def write(self, vm: VmId, container: ContainerId) -> None:
        """From now on the container starts in the VM's namespace. Raises OSError."""
        namespace = namespaces.path(namespace_name(vm))
        write_atomically(self._directory / container, os.fsencode(namespace))

    def remove(self, containers: Iterable[ContainerId]) -> None:
        """They start in none any more, and ask for nothing before; absent is success. Raises OSError."""
        for container in containers:
            (self._directory / container).unlink(missing_ok=True)
            asking.forget(self._directory, container)
