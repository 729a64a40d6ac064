"""What systemd hears: ready once, and alive as long as the event loop turns."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from onedock.config import sd_notify


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(5)
        with patch.dict(os.environ, NOTIFY_SOCKET=str(address)):
            yield listener


async def heard(systemd: socket.socket) -> str:
    return (await asyncio.to_thread(systemd.recv, 100)).decode()


async def test_ready_then_alive(systemd: socket.socket) -> None:
    with patch.dict(os.environ, WATCHDOG_USEC="150000"):
        task = asyncio.create_task(sd_notify.keep_alive())
        assert [await heard(systemd) for _ in range(3)] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
        task.cancel()


async def test_without_a_watchdog_it_is_only_ready(systemd: socket.socket) -> None:
    await sd_notify.keep_alive()
    assert await heard(systemd) == "READY=1"


def test_an_abstract_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{tmp_path}")
        listener.settimeout(5)
        with patch.dict(os.environ, NOTIFY_SOCKET=f"@{tmp_path}"):
            sd_notify.notify("READY=1")
        assert listener.recv(100) == b"READY=1"


def test_nobody_listens(tmp_path: Path) -> None:
    for address in ("", str(tmp_path / "gone")):
        with patch.dict(os.environ, NOTIFY_SOCKET=address):
            sd_notify.notify("READY=1")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_interval(environment: dict[str, str], seconds: float | None) -> None:
    with patch.dict(os.environ, environment):
        assert sd_notify.watchdog_s() == seconds
