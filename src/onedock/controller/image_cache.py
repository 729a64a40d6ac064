"""Images that no VM of a node uses any more are removed after a while: a cache, not a store. Called by ``resync``."""

from collections.abc import Iterable

import structlog

from onedock.config.settings import RegistrySettings
from onedock.controller.nodes import Node
from onedock.reconcilers.model import NodeName

log = structlog.get_logger(__name__)


class ImageCache:
    """Remembers since when each image of ours is unused on each node.

    Only images of our own registry and repository are looked at; whatever else an engine holds is not ours.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        self._prefix = f"{settings.address}/{settings.repository}/image-"
        self._keep_s = settings.unused_image_keep_s
        self._unused_since: dict[tuple[NodeName, str], float] = {}

    async def sweep(self, node: Node, used: Iterable[str], now: float) -> None:
        """Remove from a node what was unused for long enough.

        Args:
            node: the node.
            used: images of VMs that are on the node or on their way to it.
            now: a clock in seconds that only grows.
        """
        in_use = frozenset(used)
        present = [image for image in await node.engine.pinned_images() if image.startswith(self._prefix)]
        unused = {(node.name, image) for image in present if image not in in_use}
        for key in [key for key in self._unused_since if key[0] == node.name and key not in unused]:
            del self._unused_since[key]
        for key in unused:
            if now - self._unused_since.setdefault(key, now) >= self._keep_s:
                await node.engine.remove_image(key[1])
                del self._unused_since[key]
                log.info("unused image removed", node=node.name, image=key[1])
