"""The read-only web page on loopback: one file, and those views that look and change nothing.

Whoever can reach the port may look. So it is bound to 127.0.0.1, takes no name but that of loopback (a page of
elsewhere whose name is made to resolve to 127.0.0.1 has that name in ``Host``), and no method that changes anything.
"""

import base64
import hashlib
import re
from importlib.resources import files

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from onedock.controller.api.health import HealthViews
from onedock.controller.api.log import LogView
from onedock.controller.api.parts import Parts, answer_errors
from onedock.controller.api.vms import VmViews

log = structlog.get_logger(__name__)

ADDRESS = "127.0.0.1"
CLOSING_S = 1.0
"""How long the end of the controller waits for open pages: each follows the log, which never ends."""

_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_PAGE = (files(__package__) / "page.html").read_text(encoding="utf-8")


def _hash(element: str) -> str:
    """The source expression of CSP for the page's only element of this kind (CSP level 3, 2.3.1)."""
    match = re.search(rf"<{element}>(.*?)</{element}>", _PAGE, re.DOTALL)
    assert match is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()}'"


HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; script-src {_hash('script')}; style-src {_hash('style')}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


async def serve_page(parts: Parts, port: int) -> web.AppRunner:
    """Listen on a TCP port of loopback; the caller cleans the runner up.

    A port that cannot be had is logged and nothing more: VMs need no page.
    """
    application = web.Application(middlewares=[_refuse_strangers, answer_errors])
    application.on_response_prepare.append(_add_headers)
    health, vms = HealthViews(parts), VmViews(parts)
    application.add_routes(
        [
            web.get("/", _page),
            web.get("/health", health.health),
            web.get("/vms", vms.vms),
            web.get("/vms/{vm:[0-9]{1,9}}/explain", vms.explain),
            web.get("/log", LogView(parts).log, allow_head=False),  # with follow, an answer to HEAD would never end
        ]
    )
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=CLOSING_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, ADDRESS, port).start()
    except OSError as error:
        log.error("web page is not served", address=f"{ADDRESS}:{port}", error=str(error))
    return runner


async def _page(request: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html")


@web.middleware
async def _refuse_strangers(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not all(_HOST.fullmatch(host) for host in request.headers.getall("Host", [""])):
        raise web.HTTPForbidden(text=f"this page is http://{ADDRESS} or http://localhost, by no other name\n")
    return await handler(request)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
