"""A socket for the kernel's routing messages (linux/rtnetlink.h) as bytes, and the taking apart of its answers.

What is read several times for each change, and said for each NIC, is read and said by it: pyroute2 decodes all of every
answer for the few values that count, which would be most of the time that a VM waits for its network.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Self

from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent.attributes import aligned, attribute
from onedock.nodeside.agent.rtnetlink.links import (
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    Link,
    question,
)
from onedock.reconcilers.errors import TransientError

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
"""NLM_F_… of linux/netlink.h."""
GET_LINK, GET_ADDRESS, GET_ROUTE, GET_NEIGHBOUR, GET_RULE, GET_QDISC, GET_VLAN = 18, 22, 26, 30, 34, 38, 114

_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_SOL_NETLINK, _STRICT = 270, 12
_BUFFER_BYTES = 1 << 16
"""More than the kernel puts into one datagram."""
_DUMP_ATTEMPTS = 10

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""


class Rtnetlink:
    """A socket in the namespace in which the calling thread stands; a context."""

    def __init__(self, *, strict: bool = False) -> None:
        """``strict``: the kernel selects by all that a question names, and refuses what it does not know."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        if strict:
            self._socket.setsockopt(_SOL_NETLINK, _STRICT, 1)
        self._sequence = 0
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def do(self, kind: int, flags: int, body: bytes) -> None:
        """Have something done. Raises NetlinkError."""
        for _ in self._ask(kind, REQUEST | ACK | flags, body):
            pass

    def dump(self, kind: int, body: bytes, *, nothing: int = 0) -> list[bytes]:
        """Bodies of all answers; asked again when the kernel's tables changed meanwhile.

        ``nothing`` is the error by which the kernel says that there is nothing to tell. TransientError: the tables
        always change, or what was asked about went.
        """
        for _ in range(_DUMP_ATTEMPTS):
            self._interrupted = False
            try:
                answers = list(self._ask(kind, REQUEST | DUMP, body))
            except NetlinkError as error:
                if error.code == nothing:
                    return []
                raise TransientError(f"the node's kernel does not show its links: {error}; try again") from error
            if not self._interrupted:
                return answers
        raise TransientError("the node's links change faster than they can be read; try again")

    def link(self, *, name: str = "", index: int = 0) -> Link | None:
        """One link by its name or index; None: there is none. Raises NetlinkError."""
        which = attribute(IFLA_IFNAME, name.encode() + b"\0") if name else b""
        try:
            answer = next(self._ask(GET_LINK, REQUEST, question(index) + which))
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        return Link.parse(answer)

    def links(self, *, master: int = 0, kind: str = "") -> list[Link]:
        """All links, or those of one master or kind; the kernel selects them. Raises TransientError."""
        which = attribute(IFLA_MASTER, struct.pack("=I", master)) if master else b""
        if kind:
            which += attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind.encode() + b"\0"))
        return [Link.parse(answer) for answer in self.dump(GET_LINK, question() + which)]

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        """The body of each answer."""
        self._sequence += 1
        self._socket.send(HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(_BUFFER_BYTES)
            start = 0
            while start < len(data):
                length, answer, answer_flags, sequence, _ = HEADER.unpack_from(data, start)
                content = data[start + HEADER.size : start + length]
                start += aligned(length)
                if sequence != self._sequence:
                    continue
                self._interrupted |= bool(answer_flags & _DUMP_INTERRUPTED)
                if answer in {_ERROR, _DONE}:
                    # Of a dump that ends well, it is the number of bytes of the last part, or nothing.
                    (code,) = struct.unpack_from("=i", content) if len(content) >= 4 else (0,)
                    if code < 0:
                        raise NetlinkError(-code, os.strerror(-code))
                    return
                yield content
