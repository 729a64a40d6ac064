"""Attributes of netlink, as linux/netlink.h lays them out: read, and written."""

import struct
from collections.abc import Iterable, Iterator

_HEADER = struct.Struct("=HH")
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_LIST_ELEMENT = 1
_PADDING = (b"", bytes(3), bytes(2), bytes(1))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute in a row of them."""
    while len(data) >= _HEADER.size:
        length, kind = _HEADER.unpack_from(data)
        yield kind & _TYPE_MASK, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def without(data: bytes, kind: int) -> bytes:
    """The same row of attributes, but none of this type."""
    return b"".join(attribute(one, value) for one, value in attributes(data) if one != kind)


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """One attribute; of text with its end, of a number with 32 bits, as nftables has most of them."""
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif isinstance(value, int):
        value = value.to_bytes(4)
    size = len(value)
    return _HEADER.pack(_HEADER.size + size, kind) + value + _PADDING[size & 3]


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute of attributes."""
    return attribute(kind | _NESTED, b"".join(parts))


def listed(kind: int, elements: Iterable[Iterable[bytes]]) -> bytes:
    """An attribute that is a list, each element of which is attributes."""
    return nested(kind, *(nested(_LIST_ELEMENT, *element) for element in elements))
