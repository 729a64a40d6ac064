"""Command line of the controller: ``onedock-controller``. Exit 0 after SIGTERM, 1 on a failure, 2 on bad settings."""

import asyncio
import contextlib
import signal
import sys

from onedock.config.settings import Settings, SettingsError, load_settings
from onedock.controller.app import run
from onedock.reconcilers.errors import OnedockError


async def _until_told(settings: Settings) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await run(settings)


def main() -> None:
    """Run the controller."""
    try:
        settings = load_settings()
        asyncio.run(_until_told(settings))
    except (SettingsError, OnedockError) as error:
        print(f"onedock-controller: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError) else 1)


if __name__ == "__main__":
    main()
