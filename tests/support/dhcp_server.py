"""A real DHCP server (busybox' udhcpd) on a link of a network namespace of the tests."""

import socket
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import processes

_HEADER = struct.Struct("!q")
_LEASE = struct.Struct("!I4s6s22x")
"""Of the file of leases: when it was written; seconds left, address and MAC."""
_TAKEN_WITHIN_MS = 200
"""Whoever has an address answers in this time when the server asks before it offers that address."""
_CONF = """
start {first}
end {last}
interface {link}
lease_file {directory}/leases
pidfile {directory}/udhcpd.pid
max_leases 20
auto_time 1
option subnet 255.255.255.0
option router {gateway}
option dns 10.5.0.53
option domain test.example.org
option lease {seconds}
{more}
"""


class DhcpServer:
    """``with DhcpServer(directory, netns="node", link="br0"):`` serves 10.5.0.20 to 10.5.0.29, unless told otherwise.

    The link is to have the address 10.5.0.1 (``gateway``) already.
    """

    def __init__(
        self,
        directory: Path,
        *,
        netns: str,
        link: str,
        first: str = "10.5.0.20",
        last: str = "10.5.0.29",
        gateway: str = "10.5.0.1",
        seconds: int = 3600,
        more: str = "",
    ) -> None:
        self._netns = netns
        self._directory = directory
        directory.mkdir(exist_ok=True)
        (directory / "leases").touch()
        self._log = directory / "log"
        conf = _CONF.format(
            first=first, last=last, link=link, directory=directory, gateway=gateway, seconds=seconds, more=more
        )
        (directory / "udhcpd.conf").write_text(conf)

    def __enter__(self) -> Self:
        argv = ["nsenter", f"--net=/run/netns/{self._netns}", "busybox", "udhcpd", "-f", "-a", str(_TAKEN_WITHIN_MS)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*argv, str(self._directory / "udhcpd.conf")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        processes.wait_until(self._listens, within=10, what="the DHCP server listens")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        processes.end(self._process)
        (self._directory / "udhcpd.pid").unlink(missing_ok=True)

    def _listens(self) -> bool:
        sockets = Path(f"/proc/{self._process.pid}/net/udp").read_text()
        return (self._directory / "udhcpd.pid").exists() and ":0043 " in sockets

    def heard(self, words: str) -> int:
        """How often the server's log has these words."""
        return self._log.read_text().count(words)

    def leases(self) -> dict[str, str]:
        """Addresses that were leased when the server last wrote its file, at most a second ago → MAC."""
        content = (self._directory / "leases").read_bytes()[_HEADER.size :]
        rows = _LEASE.iter_unpack(content[: len(content) // _LEASE.size * _LEASE.size])
        return {socket.inet_ntoa(ip): mac.hex(":") for seconds, ip, mac in rows if seconds}
