"""Name servers of all VMs of a node: written when they change, and again when the engine has made the file anew.

The engine writes the file at each start of a container, before the container's process is there, from what it was told
when the container was made. So its writing is watched, and followed at once; where it is known to be followed, the
start waits for that (see ``asking``). All in the event loop: these are a few bytes in the page cache.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from onedock.nodeside.agent.resolver import asking, files
from onedock.nodeside.agent.resolver.content import names_in
from onedock.nodeside.agent.resolver.files import ChangedInsideError
from onedock.nodeside.agent.resolver.inotify import Inotify
from onedock.reconcilers.model import ContainerId, VmId
from onedock.reconcilers.path import Resolver
from onedock.reconcilers.resolver import Names

log = structlog.get_logger()

_CHANGED = "changed in the container, and left alone until its restart"
_NO_FILE = "the container has none yet, or agent.engine_root is not where its engine keeps it"


@dataclass(slots=True)
class _Served:
    vm: VmId
    names: Names
    trouble: str = ""
    asks: bool | None = None
    """Whether the container's next start waits for its names; None: that was not said yet."""


class NameServing:
    """Of one node.

    Args:
        engine_root: the engine's data directory.
        runtime_dir: where onedock-runtime looks.
        socket: where it asks.
    """

    def __init__(self, engine_root: Path, runtime_dir: Path, socket: Path) -> None:
        self._directory = engine_root / "containers"
        self._runtime_dir = runtime_dir
        self._socket = socket
        self._served: dict[ContainerId, _Served] = {}
        self._inotify: Inotify | None = None

    def serve(self, vm: VmId, containers: Iterable[ContainerId], names: Names | None) -> None:
        """From now on these containers of the VM have these names; None: what the engine gave them."""
        if names is None:
            self.forget(vm)
            return
        for container in containers:
            served = self._served.setdefault(container, _Served(vm, names))
            served.names = names
            self._write(container)

    def follow(self, container: ContainerId) -> None:
        """The engine may have written the container's file just now."""
        if container in self._served:
            self._write(container)

    def forget(self, vm: VmId) -> None:
        """Write nothing of this VM any more."""
        for container in [one for one, served in self._served.items() if served.vm == vm]:
            del self._served[container]
            asking.forget(self._runtime_dir, container)
            if self._inotify is not None:
                self._inotify.forget(container)

    def state(self, vm: VmId) -> Resolver | None:
        """What the VM's container is told now; None: it is the engine's business."""
        found = [(one, served) for one, served in self._served.items() if served.vm == vm]
        if not found:
            return None
        container, served = found[-1]
        try:
            names = names_in(files.read_text(self._directory, container))
        except OSError:
            names = Names()
        return Resolver(names.servers, names.search, served.trouble)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._inotify is not None:
            self._inotify.close()

    def _write(self, container: ContainerId) -> None:
        served = self._served[container]
        trouble = self._watch(container)
        try:
            self._let_ask(container, served)
            if files.write_names(self._directory, container, served.names):
                log.info("name servers written", vm=served.vm, servers=served.names.servers)
        except ChangedInsideError:
            trouble = _CHANGED
        except FileNotFoundError:
            trouble = _NO_FILE
        except OSError as error:
            trouble = f"it cannot be written: {error}"
        if trouble != served.trouble and trouble not in {"", _NO_FILE}:
            log.warning("name servers not written", vm=served.vm, container=container, reason=trouble)
        served.trouble = trouble

    def _let_ask(self, container: ContainerId, served: _Served) -> None:
        asks = not files.is_engines_matter(self._directory, container, served.names)
        if asks and not served.asks:
            asking.let_ask(self._runtime_dir, container, self._socket)
        elif not asks and served.asks is not False:
            asking.forget(self._runtime_dir, container)
        served.asks = asks

    def _watch(self, container: ContainerId) -> str:
        """The file that the container cannot write: nobody inside can make this busy. Returns why not."""
        place = self._directory / container
        try:
            if self._inotify is None:
                self._inotify = Inotify(lambda name: self._write(ContainerId(name)))
            # Engine 20.10 writes this file anew, later ones put another in its place. It is the last that they write.
            self._inotify.watch_entry(place / files.HASH, container)
            self._inotify.watch_writes(place / files.HASH, container)
        except FileNotFoundError:
            return ""
        except OSError as error:  # others have taken all watches that the node has; see sysctl fs.inotify
            return f"it will not follow the container's next start: {error}"
        return ""
