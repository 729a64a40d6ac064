"""What nftables holds, read by netlink as it is: attributes in the order and bytes that the kernel gives them.

Neither ``nft`` nor pyroute2 is asked: both take their time to parse what is only to be compared.
"""

import os
import socket
import struct
from collections.abc import Iterator
from typing import Self

NETLINK_NETFILTER = 12
FAMILIES = {"inet": 1, "netdev": 5}
GET_TABLE, GET_CHAIN, GET_RULE, GET_SET, GET_ELEMENTS, GET_OBJECT = 1, 4, 7, 10, 13, 19

_SUBSYSTEM = 10 << 8
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_DONE, _ERROR = 3, 2
_DUMP_INTERRUPTED = 0x10
_HEADER = struct.Struct("=IHHII")
_NFGENMSG = 4
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
_BUFFER = 1 << 20


class Interrupted(Exception):
    """Somebody changed what was being read."""


class Nftables:
    """A socket in the namespace where the calling thread stands; a context."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, what: int, family: str, names: dict[int, str | bytes]) -> bytes:
        """The one object that these attributes select. Raises FileNotFoundError."""
        return next(self._ask(what, family, names, _REQUEST | _ACK))

    def dump(self, what: int, family: str, names: dict[int, str | bytes]) -> Iterator[bytes]:
        """All objects that the names, such as that of a table, select. Raises FileNotFoundError or Interrupted."""
        return self._ask(what, family, names, _REQUEST | _DUMP)

    def _ask(self, what: int, family: str, names: dict[int, str | bytes], flags: int) -> Iterator[bytes]:
        self._sequence += 1
        body = struct.pack("=BBH", FAMILIES[family], 0, 0) + b"".join(
            _attribute(number, value if isinstance(value, bytes) else value.encode() + b"\0")
            for number, value in names.items()
        )
        header = _HEADER.pack(_HEADER.size + len(body), _SUBSYSTEM | what, flags, self._sequence, 0)
        self._socket.send(header + body)
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
                yield payload[_NFGENMSG:]


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute in a row of them."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & _TYPE_MASK, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]


def _attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(padding)
