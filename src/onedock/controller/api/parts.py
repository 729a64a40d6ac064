"""What the views look at."""

import pwd
import socket
import struct
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from onedock.config.settings import Settings
from onedock.controller.admin import Admin
from onedock.controller.delivery import Delivery
from onedock.controller.intake import Links
from onedock.controller.journal import Journal
from onedock.controller.metrics import Metrics
from onedock.controller.nodes import Nodes
from onedock.controller.oned import Oned
from onedock.controller.queue import KeyedQueue
from onedock.controller.registry import Registry
from onedock.controller.resync import Resync
from onedock.controller.story import Story
from onedock.reconcilers.errors import NotFoundError, OnedockError, TerminalError
from onedock.reconcilers.model import VmId

_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the controller that can be seen through the API."""

    settings: Settings
    registry: Registry
    nodes: Nodes
    journal: Journal
    story: Story
    queue: KeyedQueue[VmId]
    delivery: Delivery
    resync: Resync
    metrics: Metrics
    oned: Oned
    links: Links
    admin: Admin

    def links_up(self) -> dict[str, bool]:
        """Which of oned's drivers are connected."""
        return {kind: self.links.current(kind) is not None for kind in ("vmm", "im")}


def vm_of(request: web.Request) -> VmId:
    """The VM in a path that was matched as digits."""
    return VmId(int(request.match_info["vm"]))


def peer(request: web.Request) -> str:
    """The user at the other end of the unix socket, as the kernel says: ``root`` or ``uid 1234``."""
    assert request.transport is not None
    connection: socket.socket = request.transport.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size),
    )
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every expected error into its status with ``{"error": "cause; remedy"}``."""
    try:
        return await handler(request)
    except NotFoundError as error:
        status, text = 404, str(error)
    except TerminalError as error:
        status, text = 409, str(error)
    except OnedockError as error:
        status, text = 503, str(error)
    return web.json_response({"error": text}, status=status)
