"""Token buckets at the root of links, by netlink (linux/pkt_sched.h).

pyroute2's ``tbf`` knows no peak rate and no burst of more than 4 seconds, so these few messages are made here.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator

from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent.seen import TokenBucket
from onedock.reconcilers.errors import TransientError

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NEW, _DEL, _GET = 36, 37, 38
_REQUEST, _ACK, _DUMP, _REPLACE, _CREATE = 0x1, 0x4, 0x300, 0x100, 0x400
_NLM_F_DUMP_INTR = 0x10
_ROOT = 0xFFFFFFFF
_HANDLE = 0x10000
_KIND, _OPTIONS = 1, 2
_TBF_PARMS, _TBF_BURST, _TBF_PBURST = 1, 6, 7
_ETHERNET = 1
"""Link layer of a rate: with it, the kernel computes sizes itself and needs no table."""
_NS_PER_TICK = 64
_DUMP_ATTEMPTS = 10

_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=BxxxiIII")
"""struct tcmsg: family, index, handle, parent, info."""
_ATTRIBUTE = struct.Struct("=HH")
_PARMS = struct.Struct("=BBHhHI BBHhHI III")
"""struct tc_tbf_qopt: two rates (log, layer, overhead, align, mpu, rate), then limit, buffer, mtu."""


class Qdiscs:
    """A socket in the namespace in which the calling thread stands."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def roots(self, links: Iterable[int]) -> dict[int, TokenBucket]:
        """The token buckets at the roots of links, by the links' indices.

        The kernel selects nothing; a question for one of them alone would be told to everybody as a change.
        """
        wanted = frozenset(links)
        for _ in range(_DUMP_ATTEMPTS):
            found: dict[int, TokenBucket] = {}
            interrupted = False
            for flags, body in self._ask(_GET, _REQUEST | _DUMP, _MESSAGE.pack(0, 0, 0, 0, 0)):
                interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                _, index, _, parent, _ = _MESSAGE.unpack_from(body)
                if index in wanted and parent == _ROOT and (bucket := _read(body[_MESSAGE.size :])) is not None:
                    found[index] = bucket
            if not interrupted:
                return found
        raise TransientError("the node's queueing disciplines change faster than they can be read; try again")

    def replace(self, link: int, bucket: TokenBucket) -> None:
        """Put a token bucket at the root of a link, in place of what is there. Raises NetlinkError."""
        parms = _PARMS.pack(
            *(0, _ETHERNET, 0, 0, 0, bucket.rate), *(0, _ETHERNET, 0, 0, 0, bucket.peak), bucket.queue, 0, 0
        )
        options = _attribute(_TBF_PARMS, parms) + _attribute(_TBF_BURST, struct.pack("=I", bucket.burst))
        if bucket.peak:
            options += _attribute(_TBF_PBURST, struct.pack("=I", bucket.peak_burst))
        message = _MESSAGE.pack(0, link, _HANDLE, _ROOT, 0)
        message += _attribute(_KIND, b"tbf\0") + _attribute(_OPTIONS, options)
        self._do(_NEW, _REQUEST | _ACK | _CREATE | _REPLACE, message)

    def remove(self, link: int) -> None:
        """Have a link queue as it does by default. Raises NetlinkError."""
        try:
            self._do(_DEL, _REQUEST | _ACK, _MESSAGE.pack(0, link, 0, _ROOT, 0))
        except NetlinkError as error:
            if error.code != errno.ENOENT:
                raise

    def _do(self, kind: int, flags: int, body: bytes) -> None:
        for _ in self._ask(kind, flags, body):
            pass

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """Flags and body of each answer."""
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(1 << 20)
            start = 0
            while start < len(data):
                length, answer, answer_flags, sequence, _ = _HEADER.unpack_from(data, start)
                content = data[start + _HEADER.size : start + length]
                start += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                if answer == _NLMSG_DONE:
                    return
                if answer == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    if code:
                        raise NetlinkError(code, os.strerror(code))
                    return
                yield answer_flags, content


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found, start = {}, 0
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = data[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3
    return found


def _read(attributes: bytes) -> TokenBucket | None:
    found = _attributes(attributes)
    if found.get(_KIND) != b"tbf\0" or _OPTIONS not in found:
        return None
    parms = _attributes(found[_OPTIONS]).get(_TBF_PARMS, b"")
    if len(parms) < _PARMS.size:
        return None
    values = _PARMS.unpack_from(parms)
    rate, peak, queue, buffer, peak_buffer = values[5], values[11], *values[12:]
    return TokenBucket(rate, _bytes(buffer, rate), queue, peak, _bytes(peak_buffer, peak) if peak else 0)


def _bytes(ticks: int, rate: int) -> int:
    """The kernel shows a burst as the time that it takes, in ticks."""
    return ticks * _NS_PER_TICK * rate // 1_000_000_000
