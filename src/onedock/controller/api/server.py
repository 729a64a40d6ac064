"""The application and its socket; the rights of the socket file are the authentication."""

import os
from pathlib import Path

from aiohttp import web

from onedock.controller.api.health import HealthViews
from onedock.controller.api.intents import IntentViews
from onedock.controller.api.log import LogView
from onedock.controller.api.parts import Parts, answer_errors
from onedock.controller.api.paths import PathView
from onedock.controller.api.registry import RegistryView
from onedock.controller.api.vms import VmViews


async def serve(parts: Parts, path: Path) -> web.AppRunner:
    """Listen on a unix socket; the caller cleans the runner up."""
    application = web.Application(middlewares=[answer_errors])
    views_of = (HealthViews, VmViews, PathView, IntentViews, LogView, RegistryView)
    for views in (of(parts) for of in views_of):
        application.add_routes(views.routes())
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at start
    mask = os.umask(0o117)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(mask)
    return runner
