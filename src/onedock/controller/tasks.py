"""Endless tasks that begin anew when they fail."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from onedock.reconcilers.errors import OnedockError

log = structlog.get_logger(__name__)

RESTART_S = 5.0


async def keep_running(work: Callable[[], Awaitable[None]]) -> None:
    """Run an endless task again when it fails: an unforeseen value in one place must not stop all VMs."""
    while True:
        try:
            await work()
        except OnedockError as error:
            log.error("task failed, begins anew", error=str(error))
        except Exception:
            log.exception("task crashed, begins anew")
        await asyncio.sleep(RESTART_S)
