"""nftables by netlink: what it holds, in the order and bytes that the kernel gives, and transactions.

Neither ``nft`` nor pyroute2 is asked to read: both take their time to parse what is only to be compared.
"""

import errno
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from queue import SimpleQueue
from threading import Thread
from typing import Self

from onedock.nodeside.agent.firewall.attributes import attribute
from onedock.nodeside.agent.firewall.batch import Message

NETLINK_NETFILTER = 12
FAMILIES = {"": 0, "inet": 1, "netdev": 5}
GET_TABLE, GET_CHAIN, GET_RULE, GET_SET, GET_ELEMENTS, GET_OBJECT = 1, 4, 7, 10, 13, 19

_SUBSYSTEM = 10 << 8
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_DONE, _ERROR = 3, 2
_DUMP_INTERRUPTED = 0x10
_HEADER = struct.Struct("=IHHII")
_GENERAL = struct.Struct("=BBH")
_BEGIN, _END = 16, 17
_BUFFER = 1 << 16
"""Twice of what the kernel says at once."""
_SO_SNDBUFFORCE = 32
_SOL_NETLINK, _CAP_ACK = 270, 10
_SPARE = 4096
PORTS = 0x1D0C << 16
"""How the ports of our sockets begin: a notification has the port of who made the change. Above all process ids, and
below what the kernel gives to others."""
_REST_S = 1.0
"""A socket that is closed right after a transaction waits until the kernel has freed memory (an RCU grace period, ten
times the transaction's own time), and lets no other transaction of the namespace begin meanwhile."""


class Interrupted(Exception):
    """Somebody changed what was being read."""


_numbers = count(secrets.randbits(16))


@cache
def _used() -> SimpleQueue[socket.socket]:
    """Sockets to be closed, by a thread that begins with the first one."""
    used = SimpleQueue[socket.socket]()
    Thread(target=_close_later, args=(used,), name="nftables-close", daemon=True).start()
    return used


def _close_later(used: SimpleQueue[socket.socket]) -> None:
    while True:
        some = [used.get()]
        while not used.empty():
            some.append(used.get())
        time.sleep(_REST_S)
        for one in some:
            one.close()


def _bind(made: socket.socket) -> None:
    for number in _numbers:
        try:
            made.bind((PORTS | number & 0xFFFF, 0))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return


class Nftables:
    """A socket in the namespace where the calling thread stands; a context."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)  # errors without what they are about fit into the buffer
        _bind(self._socket)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _used().put(self._socket)

    def get(self, what: int, family: str, names: dict[int, str | bytes]) -> bytes:
        """The one object that these attributes select. Raises FileNotFoundError."""
        return next(self._ask(what, family, names, _REQUEST | _ACK))

    def dump(self, what: int, family: str, names: dict[int, str | bytes]) -> Iterator[bytes]:
        """All objects that the names, such as that of a table, select. Raises FileNotFoundError or Interrupted."""
        return self._ask(what, family, names, _REQUEST | _DUMP)

    def transact(self, changes: bytes, *, keep: bool = True) -> tuple[int, int] | None:
        """Make all packed changes at once, or none; without ``keep``, only try.

        Returns the first reason against it: the number of the change, 0 for none of them, and an errno.
        """
        resource = socket.htons(_SUBSYSTEM >> 8)
        # Without an end, the kernel checks all of it, and takes it back.
        end = _message(_END, _REQUEST, 0, "", b"", resource) if keep else b""
        sent = _message(_BEGIN, _REQUEST, 0, "", b"", resource) + changes + end
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, len(sent) + _SPARE)
        self._socket.send(sent)
        # The kernel has done it when send returns; a batch without errors has no answer.
        return next(self._errors(), None)

    def _errors(self) -> Iterator[tuple[int, int]]:
        """Sequence numbers and what is wrong, of all answers that are there."""
        with suppress(BlockingIOError):
            while True:
                try:
                    data = self._socket.recv(_BUFFER, socket.MSG_DONTWAIT)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    yield 0, errno.ENOBUFS  # more is wrong than the socket takes
                    continue
                while data:
                    length, kind, _, sequence, _ = _HEADER.unpack_from(data)
                    payload, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                    if kind == _ERROR and (number := -struct.unpack_from("=i", payload)[0]):
                        yield sequence, number

    def _ask(self, what: int, family: str, names: dict[int, str | bytes], flags: int) -> Iterator[bytes]:
        self._sequence += 1
        body = b"".join(attribute(number, value) for number, value in names.items())
        self._socket.send(_message(_SUBSYSTEM | what, flags, self._sequence, family, body))
        while True:
            data = self._socket.recv(_BUFFER)
            while data:
                length, kind, answered, sequence, _ = _HEADER.unpack_from(data)
                payload, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue
                if answered & _DUMP_INTERRUPTED:
                    raise Interrupted
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    if number := -struct.unpack_from("=i", payload)[0]:
                        raise OSError(number, os.strerror(number))
                    return
                yield payload[_GENERAL.size :]


def packed(changes: Iterable[Message]) -> bytes:
    """Changes for a transaction, numbered from 1 on."""
    return b"".join(
        _message(_SUBSYSTEM | one.kind, _REQUEST | one.flags, number, one.family, one.body)
        for number, one in enumerate(changes, 1)
    )


def _message(kind: int, flags: int, sequence: int, family: str, body: bytes, resource: int = 0) -> bytes:
    length = _HEADER.size + _GENERAL.size + len(body)
    header = _HEADER.pack(length, kind, flags, sequence, 0)
    return header + _GENERAL.pack(FAMILIES[family], 0, resource) + body
