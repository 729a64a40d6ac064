"""Token buckets at the root of links, by netlink (linux/pkt_sched.h).

pyroute2's ``tbf`` knows no peak rate and no burst of more than 4 seconds, so these few messages are made here.
"""

import errno
import struct
from collections.abc import Iterable

from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent.attributes import attribute, attributes
from onedock.nodeside.agent.rtnetlink.socket import CREATE, GET_QDISC, REPLACE, Rtnetlink
from onedock.nodeside.agent.seen import TokenBucket

_NEW, _DEL = 36, 37
_ROOT = 0xFFFFFFFF
_HANDLE = 0x10000
_KIND, _OPTIONS = 1, 2
_TBF_PARMS, _TBF_BURST, _TBF_PBURST = 1, 6, 7
_ETHERNET = 1
"""Link layer of a rate: with it, the kernel computes sizes itself and needs no table."""
_NS_PER_TICK = 64

_MESSAGE = struct.Struct("=BxxxiIII")
"""struct tcmsg: family, index, handle, parent, info."""
_PARMS = struct.Struct("=BBHhHI BBHhHI III")
"""struct tc_tbf_qopt: two rates (log, layer, overhead, align, mpu, rate), then limit, buffer, mtu."""


def roots(socket: Rtnetlink, links: Iterable[int]) -> dict[int, TokenBucket]:
    """The token buckets at the roots of links, by the links' indices.

    The kernel selects nothing; a question for one of them alone would be told to everybody as a change.
    """
    wanted = frozenset(links)
    found: dict[int, TokenBucket] = {}
    for answer in socket.dump(GET_QDISC, _MESSAGE.pack(0, 0, 0, 0, 0)):
        _, index, _, parent, _ = _MESSAGE.unpack_from(answer)
        if index in wanted and parent == _ROOT and (bucket := _read(answer)) is not None:
            found[index] = bucket
    return found


def replace(socket: Rtnetlink, link: int, bucket: TokenBucket) -> None:
    """Put a token bucket at the root of a link, in place of what is there. Raises NetlinkError."""
    parms = _PARMS.pack(
        *(0, _ETHERNET, 0, 0, 0, bucket.rate), *(0, _ETHERNET, 0, 0, 0, bucket.peak), bucket.queue, 0, 0
    )
    options = attribute(_TBF_PARMS, parms) + attribute(_TBF_BURST, struct.pack("=I", bucket.burst))
    if bucket.peak:
        options += attribute(_TBF_PBURST, struct.pack("=I", bucket.peak_burst))
    message = _MESSAGE.pack(0, link, _HANDLE, _ROOT, 0)
    socket.do(_NEW, CREATE | REPLACE, message + attribute(_KIND, b"tbf\0") + attribute(_OPTIONS, options))


def remove(socket: Rtnetlink, link: int) -> None:
    """Have a link queue as it does by default. Raises NetlinkError."""
    try:
        socket.do(_DEL, 0, _MESSAGE.pack(0, link, 0, _ROOT, 0))
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise


def _read(answer: bytes) -> TokenBucket | None:
    found = attributes(answer, _MESSAGE.size)
    if found.get(_KIND) != b"tbf\0" or _OPTIONS not in found:
        return None
    parms = attributes(found[_OPTIONS]).get(_TBF_PARMS, b"")
    if len(parms) < _PARMS.size:
        return None
    values = _PARMS.unpack_from(parms)
    rate, peak, queue, buffer, peak_buffer = values[5], values[11], *values[12:]
    return TokenBucket(rate, _bytes(buffer, rate), queue, peak, _bytes(peak_buffer, peak) if peak else 0)


def _bytes(ticks: int, rate: int) -> int:
    """The kernel shows a burst as the time that it takes, in ticks."""
    return ticks * _NS_PER_TICK * rate // 1_000_000_000
