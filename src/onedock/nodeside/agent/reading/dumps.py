"""Dumps of pyroute2, for who asks for more than the state that plans are made of."""

from collections.abc import Callable, Iterable
from typing import Any

from pyroute2.netlink.exceptions import NetlinkDumpInterrupted

from onedock.reconcilers.errors import TransientError

_ATTEMPTS = 10


def dump(call: Callable[[], Iterable[Any]]) -> list[Any]:
    """All answers to a dump, asked again when the kernel says that its tables changed in between."""
    for _ in range(_ATTEMPTS):
        try:
            return list(call())
        except NetlinkDumpInterrupted:
            continue
    raise TransientError("the node's links change faster than they can be read; try again")
