"""Makes a TCP port of this network namespace reachable as the same address in another one."""

import contextlib
import ctypes
import os
import socket
import threading
from pathlib import Path

CLONE_NEWNET = 0x40000000


class Relay:
    """Listens on 127.0.0.1:``port`` in the namespace ``netns`` and forwards to 127.0.0.1:``port`` here."""

    def __init__(self, *, netns: str, port: int) -> None:
        self._port = port
        self._listener = _listen_in(netns, port)
        self._accepting = threading.Thread(target=self._accept, name=f"relay-{netns}-{port}", daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Accept no more; open connections end with their peers."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                client.close()
                continue
            threading.Thread(target=_forward, args=(client, server), daemon=True).start()


def _forward(client: socket.socket, server: socket.socket) -> None:
    with client, server:
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _listen_in(netns: str, port: int) -> socket.socket:
    """A socket stays in the namespace of the thread that made it, so a short-lived thread makes it."""
    made: list[socket.socket | OSError] = []

    def make() -> None:
        descriptor = os.open(Path("/run/netns", netns), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {netns}")
            made.append(socket.create_server(("127.0.0.1", port)))
        except OSError as error:
            made.append(error)
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
