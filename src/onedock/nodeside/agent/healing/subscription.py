"""The kernel's notifications of one network namespace: their sockets, and what in them is news."""

import asyncio
import ctypes
import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

from onedock.nodeside.agent.firewall.nfnetlink import PORTS
from onedock.nodeside.agent.healing.notices import Notice, parse
from onedock.nodeside.heals import Cause

_LINK, _NEIGHBOUR, _TC, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV4_RULE = 1, 3, 4, 5, 7, 8
_IPV6_ADDRESS, _IPV6_ROUTE, _IPV6_RULE = 9, 11, 19
"""Multicast groups of linux/rtnetlink.h."""
_NFTABLES = 7
"""Multicast group of linux/netfilter/nfnetlink.h."""
_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_NODE_BUFFER_BYTES = 16 * 1024 * 1024
"""Of the sockets that hear of all links of the node; those of VMs keep the kernel's default."""
_DATAGRAM_BYTES = 64 * 1024
_TOGETHER_S = 0.02
"""What is said within this time is read at once."""
_ALL_LINKS = struct.pack("=IHHIIBxHiII", 32, 18, 0x301, 0, 0, 0, 0, 0, 0, 0)
"""RTM_GETLINK with NLM_F_REQUEST | NLM_F_DUMP."""
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _AND, _IF_EQUAL, _IF_SET, _RETURN = 0x20, 0x28, 0x30, 0x54, 0x15, 0x45, 0x06
_DELETED_BY_HAND = (
    (_LOAD_HALF, 0, 0, 4),
    (_IF_EQUAL, 0, 7, socket.htons(29)),  # RTM_DELNEIGH
    (_LOAD_BYTE, 0, 0, 16),
    (_IF_EQUAL, 0, 5, 7),  # AF_BRIDGE
    (_LOAD_HALF, 0, 0, 24),
    (_IF_SET, 0, 3, socket.htons(0x80)),  # NUD_PERMANENT
    (_LOAD_BYTE, 0, 0, 26),
    (_IF_SET, 0, 1, 0x02),  # NTF_SELF: of a tunnel, not of a bridge
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)
"""A socket filter: bridges and tunnels learn and forget neighbours all the time, at the guests' will."""

_MADE_BY_OTHERS = (
    (_LOAD_WORD, 0, 0, 12),
    (_AND, 0, 0, socket.htonl(0xFFFF0000)),
    (_IF_EQUAL, 0, 1, socket.htonl(PORTS)),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, 0xFFFFFFFF),
)
"""Of filters: what is loaded for hundreds of VMs at once would not fit into the buffer, and is no news."""


class Subscription:
    """The notifications of one namespace, read by the event loop or by whoever needs to be sure."""

    def __init__(self, tell: Callable[[Notice, str], None], sockets: tuple[socket.socket, ...]) -> None:
        """``tell`` gets each notice with the name of the link that it is about."""
        self._tell = tell
        self._sockets = sockets
        # Messages must be taken in their order, and who has returned from ``read`` may rely on it.
        self._lock = threading.Lock()
        self._links: dict[tuple[Cause, int], Notice] = {}
        self._advertised: set[tuple[object, ...]] = set()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read soon after something is said."""
        for one in self._sockets:
            self._listen(loop, one)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear no more."""
        for one in self._sockets:
            loop.remove_reader(one.fileno())
        with self._lock:
            for one in self._sockets:
                one.close()

    def _listen(self, loop: asyncio.AbstractEventLoop, one: socket.socket) -> None:
        # By its number: the loop looks whether it is there already, and would put a socket object into words for that.
        if one.fileno() >= 0:
            loop.add_reader(one.fileno(), self._heard, loop, one)

    def _heard(self, loop: asyncio.AbstractEventLoop, one: socket.socket) -> None:
        # A change has a dozen notifications. Taken one by one, each would keep the thread that makes the change from
        # its next message until this one has had its turn with the interpreter: that doubles the time of a change.
        loop.remove_reader(one.fileno())
        loop.call_later(_TOGETHER_S, self._listen_again, loop, one)

    def _listen_again(self, loop: asyncio.AbstractEventLoop, one: socket.socket) -> None:
        if one.fileno() >= 0:
            self.read()
            self._listen(loop, one)

    def links(self) -> tuple[Notice, ...]:
        """What was last said of each link that there is. Links of before a loss of notifications may be missing."""
        with self._lock:
            return tuple(notice for (cause, _), notice in self._links.items() if cause is Cause.LINK)

    def read(self) -> None:
        """Take everything that has arrived."""
        with self._lock:
            for one in self._sockets:
                self._drain(one)

    def _drain(self, source: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                try:
                    for notice in parse(source.recv(_DATAGRAM_BYTES)):
                        self._take(notice)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self._links.clear()
                    self._advertised.clear()
                    self._tell(Notice(Cause.OVERRUN), "")

    def _take(self, notice: Notice) -> None:
        name = notice.name
        if notice.cause is Cause.ADVERTISED and notice.state and self._is_known(notice):
            return
        if notice.cause in {Cause.LINK, Cause.PORT}:
            key = (notice.cause, notice.index)
            earlier = self._links.pop(key, None)
            if not notice.gone:
                self._links[key] = notice
            if earlier == notice:
                return
            if earlier is not None and earlier.name != name:
                self._tell(notice, earlier.name)
        elif link := self._links.get((Cause.LINK, notice.index)):
            name = link.name
        self._tell(notice, name)

    def _is_known(self, notice: Notice) -> bool:
        """Whether an address is only prolonged, as it is by everything that its router says."""
        address = (notice.index, *notice.state)
        known = address in self._advertised
        if notice.gone:
            self._advertised.discard(address)
            return False
        self._advertised.add(address)
        return known


def sockets_of_node() -> tuple[socket.socket, ...]:
    """What the agent hears of its own namespace: links, their qdiscs, lasting forwarding entries, filters."""
    made = (_route((_LINK, _TC)), _route((_NEIGHBOUR,)), _filters())
    _attach(made[1], _DELETED_BY_HAND)
    for one in made:
        one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _NODE_BUFFER_BYTES)
    made[0].send(_ALL_LINKS)
    return made


def sockets_of_vm() -> tuple[socket.socket, ...]:
    """What is said in the namespace of a VM, in which the calling thread stands."""
    of_addresses = (_IPV4_ADDRESS, _IPV4_ROUTE, _IPV4_RULE, _IPV6_ADDRESS, _IPV6_ROUTE, _IPV6_RULE)
    made = (_route((_LINK, _TC, *of_addresses)), _filters())
    made[0].send(_ALL_LINKS)
    return made


def _route(groups: Iterable[int]) -> socket.socket:
    return _joined(socket.NETLINK_ROUTE, groups)


def _filters() -> socket.socket:
    made = _joined(_NETLINK_NETFILTER, (_NFTABLES,))
    _attach(made, _MADE_BY_OTHERS)
    return made


def _attach(to: socket.socket, instructions: tuple[tuple[int, int, int, int], ...]) -> None:
    program = b"".join(struct.pack("=HBBI", *one) for one in instructions)
    kept = ctypes.create_string_buffer(program, len(program))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(instructions), ctypes.addressof(kept)))


def _joined(protocol: int, groups: Iterable[int]) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    made.bind((0, 0))
    for group in groups:
        made.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    return made
