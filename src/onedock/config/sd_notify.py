"""What a service tells systemd: that it is ready, and that its event loop still turns (sd_notify(3))."""

import asyncio
import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send one state, such as ``READY=1``. Without systemd, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # A service must not end because nobody listens.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), address)


def watchdog_s() -> float | None:
    """How often systemd wants to hear of this process, in seconds; None when it does not watch it."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1_000_000 if microseconds.isdigit() and int(microseconds) else None


async def keep_alive() -> None:
    """Say that the service is ready, then that it lives, until cancelled: from a loop that hangs nothing comes."""
    notify("READY=1")
    limit = watchdog_s()
    while limit is not None:
        await asyncio.sleep(limit / 3)
        notify("WATCHDOG=1")
