"""The command ``onedock-agent``: settings, logs, socket, and an end that changes nothing on the node."""

import asyncio
import contextlib
import fcntl
import grp
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import structlog
from aiohttp import web

from onedock.config import sd_notify
from onedock.config.logging import configure_logging
from onedock.config.settings import AgentSettings, SettingsError, load_settings
from onedock.nodeside.agent.host import HostMeter
from onedock.nodeside.agent.networks import NodeNetworks
from onedock.nodeside.agent.service import Service
from onedock.nodeside.agent.store import Store

log = structlog.get_logger()

_ROOT = Path("/")


def main() -> None:
    """Run until SIGTERM or SIGINT. Exit code 1: settings or socket cannot be used; standard error says why."""
    try:
        settings = load_settings()
        configure_logging(settings.log)
        asyncio.run(serve(settings.agent))
    except SettingsError as error:
        sys.exit(f"onedock-agent: {error}")


async def serve(settings: AgentSettings) -> None:
    """Heal what a reboot took away, then answer requests until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with listen(settings.socket, settings.socket_group) as listener:
        networks = NodeNetworks(
            Store(settings.state_dir / "vms"),
            settings.runtime_dir,
            settings.state_dir / "dhcp",
            engine_root=settings.engine_root,
            lease_wait_s=settings.dhcp_wait_s,
            socket=settings.socket.absolute(),
        )
        await networks.restore()
        places = (settings.state_dir / "vms", settings.runtime_dir)
        meter = HostMeter(_ROOT, settings.engine_root)
        service = Service(networks, meter, _ROOT, places, settings.engine_root)
        runner = web.AppRunner(service.application(), access_log=None, shutdown_timeout=5.0)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        log.info("agent ready", socket=str(settings.socket))
        watchdog = asyncio.create_task(sd_notify.keep_alive())
        await stop.wait()
        watchdog.cancel()
        log.info("agent stops, VMs stay as they are")
        await runner.cleanup()
        await networks.close()


@contextlib.contextmanager
def listen(path: Path, group: str) -> Iterator[socket.socket]:
    """A listening unix socket for root and ``group``; one left by a dead agent is replaced.

    Raises SettingsError when another agent serves it, or it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            gid = grp.getgrnam(group).gr_gid if group else os.getgid()
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            # A lock tells a dead agent's socket from that of one which is alive but does not answer.
            lock = stack.enter_context(path.with_name(f"{path.name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_socket():
                path.unlink()
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            before = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            os.chown(path, 0, gid)
            path.chmod(0o660)
        except KeyError:
            raise SettingsError(f"agent.socket_group: there is no group {group!r}; create it or name another") from None
        except BlockingIOError:
            raise SettingsError(f"{path}: another agent serves this socket; stop it or set agent.socket") from None
        except OSError as error:
            raise SettingsError(f"agent.socket: {path} cannot be served: {error.strerror}") from error
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
