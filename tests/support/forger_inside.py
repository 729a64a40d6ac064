"""Runs in a container, by a bare Python: sends what it is told, in every way that CAP_NET_RAW allows.

``forger_inside.py SOCKET``: serves one connection; each line is a JSON list of the method's name and its arguments, and
is answered by a line with ``null`` or the text of the error.
"""

import ctypes
import json
import mmap
import os
import socket
import struct
import sys
import time
from pathlib import Path

SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
IP_TRANSPARENT = 19
MAP_32BIT = 0x40
SOCKETCALL = bytes.fromhex("53 b866000000 bb01000000 89f9 cd80 5b c3")
"""For x86-64: ``int 0x80`` with socketcall(SYS_SOCKET, first argument)."""

libc = ctypes.CDLL(None, use_errno=True)


def capabilities() -> None:
    """RuntimeError unless there is CAP_NET_RAW without CAP_NET_ADMIN."""
    lines = Path("/proc/self/status").read_text().splitlines()
    mask = int(next(line.split()[1] for line in lines if line.startswith("CapEff")), 16)
    if not mask >> 13 & 1 or mask >> 12 & 1:
        raise RuntimeError(f"these are not a container's capabilities: {mask:x}")


def packet(interface: str, frame: str) -> None:
    """A raw frame."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        raw.send(bytes.fromhex(frame))


def direct(interface: str, frame: str) -> None:
    """A raw frame past the queues."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        raw.bind((interface, 0))
        raw.send(bytes.fromhex(frame))


def flood(interface: str, frame: str, seconds: float) -> None:
    """The same raw frame past the queues, as often as possible."""
    data = bytes.fromhex(frame)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        raw.bind((interface, 0))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                raw.send(data)
            except OSError:  # no room
                time.sleep(0.001)


def open_socket(family: int) -> None:
    """Asks the kernel itself, so that ``family`` may have more bits than it takes."""
    number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
    result = libc.syscall(number, ctypes.c_ulong(family), socket.SOCK_RAW, 0)
    _check(result)
    os.close(result)


def set_option(level: int, option: int, value: int) -> None:
    """On a raw socket; asks the kernel itself, so that the numbers may have more bits than it takes."""
    number = {"x86_64": 54, "aarch64": 208}[os.uname().machine]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        given = ctypes.byref(ctypes.c_int(value))
        _check(libc.syscall(number, raw.fileno(), ctypes.c_ulong(level), ctypes.c_ulong(option), given, 4))


def open_socket_32(family: int) -> None:
    """Asks as a 32-bit program does, with the family in memory: any process may, if the kernel runs such programs."""
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        if status:  # of a signal, where the kernel does not
            raise OSError(f"no socket: {os.waitstatus_to_exitcode(status)}")
        return
    low = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT, prot=7)
    address = ctypes.addressof(ctypes.c_char.from_buffer(low))
    low[: len(SOCKETCALL)] = SOCKETCALL
    low[256:268] = struct.pack("=3I", family, socket.SOCK_RAW, 0)
    result = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(address)(address + 256)
    os._exit(max(0, -result))


def stack(interface: str, data: str, target: str) -> None:
    """A whole packet with its header, through the IP stack."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        raw.sendto(bytes.fromhex(data), (target, 0))


def datagram(interface: str, source: str, source_port: int, target: str, port: int, payload: str) -> None:
    """By an ordinary socket."""
    with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        plain.bind((source, source_port))
        plain.sendto(bytes.fromhex(payload), (target, port))


def foreign(interface: str, source: str, source_port: int, target: str, port: int, payload: str) -> None:
    """By a socket that is bound to somebody else's address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        plain.bind((source, source_port))
        plain.sendto(bytes.fromhex(payload), (target, port))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


METHODS = {
    method.__name__: method
    for method in (
        *(capabilities, open_socket, open_socket_32, set_option),
        *(packet, direct, flood, stack, datagram, foreign),
    )
}


def main() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(sys.argv[1])
        server.listen(1)
        connection, _ = server.accept()
        with connection, connection.makefile("rw") as lines:
            for line in lines:
                name, *arguments = json.loads(line)
                error = None
                try:
                    METHODS[name](*arguments)
                except Exception as failure:
                    error = repr(failure)
                lines.write(json.dumps(error) + "\n")
                lines.flush()


if __name__ == "__main__":
    main()
