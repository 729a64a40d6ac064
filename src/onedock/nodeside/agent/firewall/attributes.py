"""Attributes of nftables: numbers are big-endian there, and lists are attributes of attributes."""

from collections.abc import Iterable

from onedock.nodeside.agent import attributes
from onedock.nodeside.agent.attributes import each_attribute

_NESTED = 0x8000
_LIST_ELEMENT = 1


def without(data: bytes, *kinds: int) -> bytes:
    """The same row of attributes, but none of these types."""
    return b"".join(attribute(one, value) for one, value in each_attribute(data) if one not in kinds)


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """One attribute; of text with its end, of a number with 32 bits, as nftables has most of them."""
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif isinstance(value, int):
        value = value.to_bytes(4)
    return attributes.attribute(kind, value)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute of attributes."""
    return attribute(kind | _NESTED, b"".join(parts))


def listed(kind: int, elements: Iterable[Iterable[bytes]]) -> bytes:
    """An attribute that is a list, each element of which is attributes."""
    return nested(kind, *(nested(_LIST_ELEMENT, *element) for element in elements))
