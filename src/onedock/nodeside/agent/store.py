"""What the agent remembers of each VM over its own and the node's restart: one JSON file per VM."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from onedock.nodeside.agent.ways_out import follow
from onedock.reconcilers.model import ContainerId, Network, VmId

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kept:
    """The memory of one VM."""

    network: Network
    """The last one that was wanted."""
    containers: tuple[ContainerId, ...] = ()
    """Containers that start in its namespace."""
    removing: bool = False
    """Its removal has begun: it is never made again, the removal is finished."""


_ADAPTER = TypeAdapter(Kept)


class Store:
    """All memories, read once; every change is on disk before it is in memory."""

    def __init__(self, directory: Path) -> None:
        """Read ``directory``, making it if need be. A file that cannot be read is logged and left alone."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._kept: dict[VmId, Kept] = {}
        # Who holds a VM's lock changes its memory alone, except for what follows from another VM's network.
        self._following = threading.Lock()
        for file in sorted(directory.glob("*.json")):
            try:
                kept = _ADAPTER.validate_json(file.read_bytes())
            except (ValidationError, OSError) as error:
                log.error("kept network cannot be read, left alone", file=str(file), error=str(error)[:300])
                continue
            self._kept[kept.network.vm] = kept

    def __iter__(self) -> Iterator[Kept]:
        return iter(tuple(self._kept.values()))

    def get(self, vm: VmId) -> Kept | None:
        """What is remembered of a VM."""
        return self._kept.get(vm)

    def keep_network(self, network: Network) -> None:
        """Remember the wanted network; the containers stay."""
        kept = self._kept.get(network.vm)
        self._write(replace(kept, network=network, removing=False) if kept else Kept(network))

    def follow(self, changed: Network, earlier: Network) -> tuple[Network, ...]:
        """Remember of all other VMs the ways out that ``changed`` now has; returns the networks that are others by it.

        Nobody may keep a network on the same bridges meanwhile.
        """
        followers = []
        for vm in tuple(self._kept):
            with self._following:
                kept = self._kept.get(vm)
                if kept is None or kept.removing or vm == changed.vm:
                    continue
                if (network := follow(kept.network, changed, earlier)) != kept.network:
                    self._write(replace(kept, network=network))
                    followers.append(network)
        return tuple(followers)

    def keep_container(self, vm: VmId, container: ContainerId) -> None:
        """Remember a binding, besides earlier ones."""
        with self._following:
            kept = self._kept.get(vm, Kept(Network(vm)))
            if container not in kept.containers:
                self._write(replace(kept, containers=(*kept.containers, container)))

    def begin_removal(self, vm: VmId) -> None:
        """Remember that the VM is on its way out, if anything is remembered of it."""
        with self._following:
            if kept := self._kept.get(vm):
                self._write(replace(kept, removing=True))

    def forget(self, vm: VmId) -> None:
        """Remove everything of a VM; absent is success."""
        with self._following:
            self._file(vm).unlink(missing_ok=True)
            self._kept.pop(vm, None)

    def _file(self, vm: VmId) -> Path:
        return self._directory / f"{vm}.json"

    def _write(self, kept: Kept) -> None:
        if kept != self._kept.get(kept.network.vm):
            write_atomically(self._file(kept.network.vm), _ADAPTER.dump_json(kept))
            self._kept[kept.network.vm] = kept


def write_atomically(file: Path, content: bytes) -> None:
    """Replace ``file``: whoever reads it, even after a crash of the node, sees the old content or the new."""
    draft = file.with_name(f".{file.name}.new")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
