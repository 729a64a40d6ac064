"""A socket for the kernel's routing messages (linux/rtnetlink.h) as bytes, and the taking apart of its answers.

What changes something is said in pyroute2's words; what is only read, several times for each change, is read here:
decoding all of an answer for the few values that count would be most of the time that a VM waits for its network.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from pyroute2.netlink.exceptions import NetlinkError

from onedock.reconcilers.errors import TransientError

REQUEST, ACK, DUMP, REPLACE, CREATE = 0x1, 0x4, 0x300, 0x100, 0x400
"""NLM_F_… of linux/netlink.h."""
GET_LINK, GET_ADDRESS, GET_ROUTE, GET_NEIGHBOUR, GET_RULE, GET_QDISC, GET_VLAN = 18, 22, 26, 30, 34, 38, 114

_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_SOL_NETLINK, _STRICT = 270, 12
_BUFFER_BYTES = 1 << 16
"""More than the kernel puts into one datagram."""
_DUMP_ATTEMPTS = 10
_TYPE_MASK = 0x3FFF
_ALIGN = 4

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_EXT_MASK = struct.Struct("=HHI")

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_QDISC, IFLA_MASTER = 1, 3, 4, 5, 6, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_EXT_MASK = 18, 20, 26, 27, 29
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
_SKIP_STATISTICS = 8
"""RTEXT_FILTER_SKIP_STATS: two thirds of what the kernel tells of a link, and of the time to read it."""

Attributes = dict[int, bytes]
"""By their numbers; of several with one number the last."""


class Rtnetlink:
    """A socket in the namespace in which the calling thread stands; a context."""

    def __init__(self, *, strict: bool = False) -> None:
        """``strict``: the kernel selects by all that a question names, and refuses what it does not know."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        if strict:
            self._socket.setsockopt(_SOL_NETLINK, _STRICT, 1)
        self._sequence = 0

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

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Bodies of all answers; asked again when the kernel's tables changed meanwhile. Raises NetlinkError."""
        for _ in range(_DUMP_ATTEMPTS):
            answers = list(self._ask(kind, REQUEST | DUMP, body))
            if not any(flags & _DUMP_INTERRUPTED for flags, _ in answers):
                return [answer for _, answer in answers]
        raise TransientError("the node's links change faster than they can be read; try again")

    def link(self, *, name: str = "", index: int = 0) -> "Link | None":
        """One link by its name or index; None: there is none. Raises NetlinkError."""
        which = attribute(IFLA_IFNAME, name.encode() + b"\0") if name else b""
        try:
            _, answer = next(self._ask(GET_LINK, REQUEST, _link_request(index) + which))
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        return Link.parse(answer)

    def links(self, *, master: int = 0, kind: str = "") -> "list[Link]":
        """All links, or those of one master or kind; the kernel selects them. Raises NetlinkError."""
        which = attribute(IFLA_MASTER, struct.pack("=I", master)) if master else b""
        if kind:
            which += attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind.encode() + b"\0"))
        return [Link.parse(answer) for answer in self.dump(GET_LINK, _link_request() + which)]

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """Flags and body of each answer."""
        self._sequence += 1
        self._socket.send(HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(_BUFFER_BYTES)
            start = 0
            while start < len(data):
                length, answer, answer_flags, sequence, _ = HEADER.unpack_from(data, start)
                content = data[start + HEADER.size : start + length]
                start += _aligned(length)
                if sequence != self._sequence:
                    continue
                if answer == _ERROR:
                    (code,) = struct.unpack_from("=i", content)
                    if code:
                        raise NetlinkError(-code, os.strerror(-code))
                    return
                if answer == _DONE:
                    return
                yield answer_flags, content


@dataclass(frozen=True, slots=True)
class Link:
    """What the kernel says of a link."""

    index: int
    flags: int
    kind: str
    """``bridge``, ``veth``…; empty for hardware."""
    attributes: Attributes
    """IFLA_… by number."""
    data: Attributes
    """What its kind adds, by numbers of its own."""
    raw: bytes
    """The whole body."""

    @classmethod
    def parse(cls, answer: bytes) -> Self:
        """From the body of RTM_NEWLINK."""
        _, _, index, flags, _ = _LINK.unpack_from(answer)
        found = attributes(answer, _LINK.size)
        info = attributes(found.get(IFLA_LINKINFO, b""))
        return cls(
            index, flags, text(info.get(IFLA_INFO_KIND)), found, attributes(info.get(IFLA_INFO_DATA, b"")), answer
        )

    @property
    def name(self) -> str:
        """Its name."""
        return text(self.attributes.get(IFLA_IFNAME))

    @property
    def up(self) -> bool:
        """Whether it is to be up."""
        return bool(self.flags & IFF_UP)

    @property
    def limited(self) -> bool:
        """Whether something that is not there by default delays what leaves it."""
        return text(self.attributes.get(IFLA_QDISC)) not in {"", "noqueue", "noop"}

    def number(self, attribute: int) -> int:
        """A 32-bit attribute; 0: it has none."""
        return number(self.attributes.get(attribute))


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % _ALIGN)


def attributes(data: bytes, start: int = 0) -> Attributes:
    """All attributes of a row of them."""
    return dict(each_attribute(data, start))


def each_attribute(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Number and value of each attribute, in order."""
    end = len(data)
    while start + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[start + _ATTRIBUTE.size : start + length]
        start += _aligned(length)


def text(value: bytes | None) -> str:
    """A name that ends with a zero byte; empty when there is none."""
    return value.split(b"\0", 1)[0].decode(errors="replace") if value else ""


def number(value: bytes | None) -> int:
    """A number of the machine's own byte order; 0 when there is none."""
    return int.from_bytes(value, sys.byteorder) if value else 0


def _link_request(index: int = 0) -> bytes:
    return _LINK.pack(0, 0, index, 0, 0) + _EXT_MASK.pack(_EXT_MASK.size, IFLA_EXT_MASK, _SKIP_STATISTICS)


def _aligned(length: int) -> int:
    return (length + _ALIGN - 1) & -_ALIGN
