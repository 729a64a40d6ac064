"""Probes sent for real: sockets in the VMs' namespaces, all of them served by one loop in the test's process."""

import contextlib
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Self, TypeVar

from tests.support.oracle import ECHO_REQUEST, Placed, Probe, World
from tests.support.packets import checksum

from onedock.nodeside.agent import namespaces
from onedock.reconcilers.model import VmId, namespace_name
from onedock.reconcilers.nic_parts import Protocol

T = TypeVar("T")

PORTS = (7001, 7002)
"""Every VM answers on these, by TCP and UDP, on each of its addresses."""
QUIET_S = 0.25
"""How long an answer that is not expected may take once all expected ones are there."""
AGAIN_S = 0.3
LONGEST_S = 15.0
"""How long an answer that is expected may take, on a busy machine."""
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_ECHO_REPLY = {4: 0, 6: 129}
_ICMP = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}


def inside(namespace: str, function: Callable[[], T]) -> T:
    """Call it in a thread that is in the network namespace of this name; sockets made there stay there."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            namespaces.enter(namespace)
            results.append(function())
        except BaseException as error:  # it is raised in the calling thread
            errors.append(error)

    thread = threading.Thread(target=run, name=f"in {namespace}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class Probing:
    """``with Probing(world) as probing:`` opens the servers of all VMs; ``measure`` sends and collects the answers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stack = ExitStack()
        self._token = os.urandom(4)

    def __enter__(self) -> Self:
        self._selector = self._stack.enter_context(contextlib.closing(selectors.DefaultSelector()))
        self._raw: dict[tuple[VmId, int], socket.socket] = {}
        try:
            for placed in self._world.vms:
                inside(namespace_name(placed.vm), partial(self._serve, placed))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, probes: Collection[Probe], *, expected: Mapping[Probe, VmId | None]) -> dict[Probe, VmId | None]:
        """Which VM answered each probe. Lasts until all expected answers are there (or ``LONGEST_S``), and a bit."""
        self._got: dict[Probe, VmId | None] = dict.fromkeys(probes)
        self._numbered = dict(enumerate(probes))
        self._pinged: dict[int, VmId] = {}
        with ExitStack() as self._clients:
            again = self._send_all(self._numbered)
            self._repeat(again)
            deadline, due = time.monotonic() + LONGEST_S, time.monotonic() + AGAIN_S
            while time.monotonic() < deadline and any(expected[one] and not self._got[one] for one in probes):
                self._turn(0.02)
                if time.monotonic() > due:
                    self._repeat(again)
                    due += AGAIN_S
            self._repeat(again)
            end = time.monotonic() + QUIET_S
            while time.monotonic() < end:
                self._turn(0.02)
        return self._got

    def _turn(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            with contextlib.suppress(BlockingIOError, ConnectionError, OSError):
                key.data()

    def _watch(self, stack: ExitStack, opened: socket.socket, ready: Callable[[], None], events: int = 1) -> None:
        opened.setblocking(False)
        stack.enter_context(opened)
        self._selector.register(opened, events, ready)
        stack.callback(self._forget, opened)

    def _forget(self, opened: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(opened)

    def _serve(self, placed: Placed) -> None:
        name = str(placed.vm).encode()
        for family in (4, 6):
            raw = socket.socket(_FAMILY[family], socket.SOCK_RAW, _ICMP[family])
            self._raw[placed.vm, family] = raw
            self._watch(self._stack, raw, partial(self._on_icmp, raw, family, placed.vm))
        for address in {one.partition("/")[0] for nic in placed.network.nics for one in nic.addresses}:
            family = _FAMILY[6 if ":" in address else 4]
            for port in PORTS:
                stream = socket.socket(family, socket.SOCK_STREAM)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                stream.bind((address, port))
                stream.listen(64)
                self._watch(self._stack, stream, partial(self._on_connection, stream, name))
                datagrams = socket.socket(family, socket.SOCK_DGRAM)
                datagrams.bind((address, port))
                self._watch(self._stack, datagrams, partial(self._on_datagram, datagrams, name))

    @staticmethod
    def _on_connection(server: socket.socket, name: bytes) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(name)

    @staticmethod
    def _on_datagram(server: socket.socket, name: bytes) -> None:
        _, peer = server.recvfrom(2048)
        server.sendto(name, peer)

    def _on_icmp(self, raw: socket.socket, family: int, vm: VmId) -> None:
        packet = raw.recv(2048)
        message = packet[(packet[0] & 15) * 4 :] if family == 4 else packet
        if len(message) < 16 or message[8:12] != self._token:
            return
        number = int.from_bytes(message[12:16], "big")
        probe = self._numbered.get(number)
        if message[0] == ECHO_REQUEST[family]:
            self._pinged[number] = vm
        elif message[0] == _ECHO_REPLY[family] and probe is not None and probe.source == vm:
            self._got[probe] = self._pinged.get(number)

    def _send_all(self, numbered: Mapping[int, Probe]) -> list[Callable[[], object]]:
        """Begin all probes; returns what is to be called to repeat each that the kernel does not repeat itself."""
        again: list[Callable[[], object]] = []
        for vm in dict.fromkeys(probe.source for probe in numbered.values()):
            mine = [(number, probe) for number, probe in numbered.items() if probe.source == vm]
            again += inside(namespace_name(vm), partial(self._begin, mine))
        return again

    def _begin(self, probes: Iterable[tuple[int, Probe]]) -> list[Callable[[], object]]:
        again: list[Callable[[], object]] = []
        for number, probe in probes:
            kind = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM}.get(
                probe.protocol, socket.SOCK_RAW
            )
            protocol = _ICMP[probe.family] if kind == socket.SOCK_RAW else 0
            client = self._clients.enter_context(socket.socket(_FAMILY[probe.family], kind, protocol))
            client.setblocking(False)
            client.bind((probe.source_address, 0))
            if kind == socket.SOCK_RAW:
                again.append(partial(self._ping, client, number, probe))
                continue
            try:
                client.connect((probe.target, probe.port))
            except BlockingIOError:
                pass
            except OSError:  # no route: nobody is reached
                continue
            self._watch(self._clients, client, partial(self._on_answer, client, probe))
            if kind == socket.SOCK_DGRAM:
                again.append(partial(self._ask, client, probe))
        return again

    def _on_answer(self, client: socket.socket, probe: Probe) -> None:
        answer = client.recv(64)
        if answer:
            self._got[probe] = VmId(int(answer))
        elif probe.protocol is Protocol.TCP:
            self._forget(client)

    def _ask(self, client: socket.socket, probe: Probe) -> None:
        if self._got[probe] is None:
            client.send(b"?")

    def _ping(self, client: socket.socket, number: int, probe: Probe) -> None:
        if self._got[probe] is not None:
            return
        body = self._token + number.to_bytes(4, "big")
        header = struct.pack("!BBHHH", ECHO_REQUEST[probe.family], 0, 0, number & 0xFFFF, 1)
        if probe.family == 4:  # the kernel fills in ICMPv6's checksum, but not ICMP's
            header = header[:2] + struct.pack("!H", checksum(header + body)) + header[4:]
        client.sendto(header + body, (probe.target, 0))

    @staticmethod
    def _repeat(again: Iterable[Callable[[], object]]) -> None:
        for send in again:
            with contextlib.suppress(OSError):
                send()
