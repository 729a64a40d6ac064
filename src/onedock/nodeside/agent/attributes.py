"""The attributes of netlink messages (linux/netlink.h): each a length, a number and a value, padded to four bytes."""

import struct
import sys
from collections.abc import Iterator

Attributes = dict[int, bytes]
"""By their numbers; of several with one number the last."""

_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
_ALIGN = 4


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
        start += aligned(length)


def text(value: bytes | None) -> str:
    """A name that ends with a zero byte; empty when there is none."""
    return value.split(b"\0", 1)[0].decode(errors="replace") if value else ""


def number(value: bytes | None) -> int:
    """A number of the machine's own byte order; 0 when there is none."""
    return int.from_bytes(value, sys.byteorder) if value else 0


def aligned(length: int) -> int:
    """Where what follows begins."""
    return (length + _ALIGN - 1) & -_ALIGN
