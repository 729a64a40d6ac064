"""A container with Docker's default rights that forges what it is told, and sniffers that see what gets out."""

import json
import os
import select
import socket
import struct
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from tests.support import images, processes
from tests.support.engine import PrivateEngine
from tests.support.packets import label
from tests.support.probing import inside

from onedock.reconcilers.model import ContainerId

_INSIDE = Path(__file__).with_name("forger_inside.py")
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 263, 1, 1

Order = tuple[str | int | float, ...]
"""Method of ``forger_inside`` and its arguments."""


class Forger:
    """``create`` it, bind its container to a network, then ``start`` it; ``do`` gives one order."""

    def __init__(self, engine: PrivateEngine) -> None:
        self._engine = engine
        self._stack = ExitStack()

    def create(self) -> ContainerId:
        """The container, with nothing but its runtime asked for: capabilities and system calls are the defaults."""
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{processes.RUN}-forge-")))
        (self._directory / "inside.py").write_bytes(_INSIDE.read_bytes())
        binds = [f"{path}:{path}:ro" for path in ("/usr", "/lib", "/lib64") if Path(path).exists()]
        binds.append(f"{self._directory}:/forge")
        body = {
            "Image": images.load(self._engine, tag="onedock-test:forger"),
            "Entrypoint": ["/usr/bin/python3", "-IS", "/forge/inside.py", "/forge/socket"],
            "HostConfig": {"NetworkMode": "none", "Runtime": "onedock", "Binds": binds},
        }
        container = self._engine.api("POST", "/containers/create", body)["Id"]
        self._stack.callback(self._engine.api, "DELETE", f"/containers/{container}?force=1")
        self._container = ContainerId(container)
        return self._container

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._engine.api("POST", f"/containers/{self._container}/start")
        connection = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        processes.wait_until(partial(self._connects, connection), within=20, what="the forger listens")
        self._lines = self._stack.enter_context(connection.makefile("rw"))

    def do(self, *order: str | float) -> str | None:
        """Have it done. Returns the error's text, None when the kernel took it."""
        self._lines.write(json.dumps(order) + "\n")
        self._lines.flush()
        answer: str | None = json.loads(self._lines.readline())
        return answer

    def close(self) -> None:
        """Remove the container, whatever it does."""
        self._stack.close()

    def _connects(self, connection: socket.socket) -> bool:
        try:
            connection.connect(str(self._directory / "socket"))
        except OSError:
            return False
        return True


class Sniffers:
    """Sees every frame that comes in at some links; (namespace, link) each."""

    def __init__(self, links: Iterable[tuple[str, str]]) -> None:
        self._links = tuple(links)

    def __enter__(self) -> Self:
        self._sockets = [inside(namespace, partial(_listen, link)) for namespace, link in self._links]
        self._seen: list[bytes] = []
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self._sockets:
            opened.close()

    def wait_for(self, token: bytes, *, within: float = 5.0) -> bool:
        """Whether a frame with the token in it has been seen until then."""
        deadline = time.monotonic() + within
        while not self.saw(token):
            if time.monotonic() > deadline:
                return False
            self._read(0.02)
        return True

    def saw(self, token: bytes) -> bool:
        """Whether a frame with the token in it, or labelled with it, has been seen, without waiting."""
        self._read(0.0)
        return any(token in frame or label(token) in frame for frame in self._seen)

    def _read(self, seconds: float) -> None:
        while readable := select.select(self._sockets, [], [], seconds)[0]:
            seconds = 0.0
            for opened in readable:
                frame, (_, _, kind, *_) = opened.recvfrom(65535)
                if kind != socket.PACKET_OUTGOING:
                    self._seen.append(frame)


def token() -> bytes:
    """Something that no other frame has in it."""
    return os.urandom(8)


def _listen(link: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
    opened.bind((link, _ETH_P_ALL))
    membership = struct.pack("iHH8x", socket.if_nametoindex(link), _PACKET_MR_PROMISC, 0)
    opened.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
    return opened
