"""What the agent remembers of each VM over its own and the node's restart: one JSON file per VM.

Two ends are different. The agent's own (SIGKILL) leaves the kernel as it is, so what the kernel may have must be in the
file before it is done: a rename is enough, the page cache outlives the process. The node's (power) takes namespaces,
links and rules along; the file then only saves time until the controller comes, which looks at the network and the
binding of each VM before it starts a container, and removes what OpenNebula does not have. So nothing waits for the
disk, but ports of Open vSwitch, whose database outlasts both. Networks are sent there at once (``flush``), all else
with the file system's next commit; the power may fail before, and leave the previous content or, on some file systems,
none. That network is then made as it was before, or not until the controller asks for it.
"""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from onedock.nodeside.agent.superseded import asked_anew, in_turns, phydevs, superseded, without
from onedock.nodeside.agent.ways_out import follow
from onedock.reconcilers.model import ContainerId, Network, Nic, VmId

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
    superseded: tuple[Nic, ...] = ()
    """What was wanted before and may be on the node yet, because ``network`` has not been made since."""

    @property
    def earlier(self) -> Network:
        """Everything that the VM may have by now; of a NIC that was changed, both forms."""
        return replace(self.network, nics=(*self.network.nics, *self.superseded))


_ADAPTER = TypeAdapter(Kept)


class Store:
    """All memories, read once; every change is in its file before it is in memory."""

    def __init__(self, directory: Path) -> None:
        """Read ``directory``, making it if need be. A file that cannot be read is logged and left alone.

        One that is empty is what a power loss left of a change that had not reached the disk: it goes.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._kept: dict[VmId, Kept] = {}
        # Who holds a VM's lock changes its memory alone, except for what follows from another VM's network.
        self._following = threading.Lock()
        for file in sorted(directory.glob("*.json")):
            try:
                if not (content := file.read_bytes()):
                    file.unlink()
                    continue
                kept = _ADAPTER.validate_json(content)
            except (ValidationError, OSError) as error:
                log.error("kept network cannot be read, left alone", file=str(file), error=str(error)[:300])
                continue
            self._kept[kept.network.vm] = kept

    def __iter__(self) -> Iterator[Kept]:
        return iter(tuple(self._kept.values()))

    def get(self, vm: VmId) -> Kept | None:
        """What is remembered of a VM."""
        return self._kept.get(vm)

    def keep_network(self, network: Network) -> Kept:
        """Remember the wanted network, and what it supersedes until ``made``; returns what is remembered now.

        The containers stay. A physical device that the VM did not have is superseded for nobody any more.
        """
        kept = self._kept.get(network.vm)
        earlier = kept.earlier if kept else Network(network.vm)
        if asked := asked_anew(network, earlier):
            self._let_keep(network.vm, asked)
        containers = kept.containers if kept else ()
        return self._write(Kept(network, containers, superseded=superseded(network, earlier)))

    def made(self, vm: VmId) -> None:
        """The network is as wanted, and nothing is left of what was before."""
        self._write(replace(self._kept[vm], superseded=()))

    def flush(self, vm: VmId) -> None:
        """Wait until what is remembered of a VM outlasts the end of the node's power; gone meanwhile is success."""
        try:
            _fsync(self._file(vm))
            _fsync(self._directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.error("kept network may not outlast the node's power", vm=vm, error=str(error))

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

    def hand_on(self, vm: VmId) -> VmId | None:
        """Physical devices that a VM on its way out has half put into a bridge are superseded for another VM there.

        Returns that VM. Nobody may keep a network on the same bridges meanwhile.
        """
        kept = self._kept.get(vm)
        others = [one for one in self if one.network.vm != vm and not one.removing]
        wanted = frozenset[tuple[str, str]]().union(*(phydevs(one.network) for one in others))
        left = without(in_turns(kept.network, kept.superseded), wanted) if kept else ()
        for other in others:
            bridges = {nic.bridge for nic in other.network.nics}
            if here := tuple(nic for nic in left if nic.bridge in bridges):
                with self._following:
                    if heir := self._kept.get(other.network.vm):
                        self._write(replace(heir, superseded=tuple(dict.fromkeys((*heir.superseded, *here)))))
                        return other.network.vm
        return None

    def forget(self, vm: VmId) -> None:
        """Remove everything of a VM; absent is success."""
        with self._following:
            self._file(vm).unlink(missing_ok=True)
            self._kept.pop(vm, None)

    def _let_keep(self, asking: VmId, asked: frozenset[tuple[str, str]]) -> None:
        for vm in tuple(self._kept):
            with self._following:
                kept = self._kept.get(vm)
                if kept is not None and kept.superseded and vm != asking:
                    self._write(replace(kept, superseded=without(kept.superseded, asked)))

    def _file(self, vm: VmId) -> Path:
        return self._directory / f"{vm}.json"

    def _write(self, kept: Kept) -> Kept:
        vm = kept.network.vm
        if (known := self._kept.get(vm)) == kept:
            return known
        draft = _draft(self._file(vm))
        draft.write_bytes(_ADAPTER.dump_json(kept))
        draft.replace(self._file(vm))
        self._kept[vm] = kept
        return kept


def write_atomically(file: Path, content: bytes) -> None:
    """Replace ``file``: whoever reads it, even after a crash of the node, sees the old content or the new."""
    draft = _draft(file)
    draft.write_bytes(content)
    _fsync(draft)
    draft.replace(file)
    _fsync(file.parent)


def _draft(file: Path) -> Path:
    return file.with_name(f".{file.name}.new")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
