"""Views of oned's requests, and the two changes that an admin may make to them."""

from dataclasses import asdict

from aiohttp import web

from onedock.controller.api.parts import Parts, peer
from onedock.reconcilers.model import VmId

MOST = 1000


class IntentViews:
    """``/intents``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[web.RouteDef]:
        """What is served here."""
        return [
            web.get("/intents", self.intents),
            web.get("/intents/{id:[0-9]{1,15}}", self.intent),
            web.post("/intents/{id:[0-9]{1,15}}/retry", self.retry),
            web.post("/intents/{id:[0-9]{1,15}}/drop", self.drop),
        ]

    async def intents(self, request: web.Request) -> web.Response:
        """The newest requests, oldest first; ``vm=`` and ``pending`` choose."""
        text = request.query.get("vm", "")
        vm = VmId(int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else None
        limit = request.query.get("limit", "100")
        rows = await self._parts.journal.intents(
            vm=vm, pending="pending" in request.query, limit=min(int(limit), MOST) if limit.isdecimal() else MOST
        )
        return web.json_response([asdict(row) for row in rows])

    async def intent(self, request: web.Request) -> web.Response:
        """One request."""
        return web.json_response(asdict(await self._parts.admin.find(int(request.match_info["id"]))))

    async def retry(self, request: web.Request) -> web.Response:
        """Try it now."""
        await self._parts.admin.retry(int(request.match_info["id"]), peer(request))
        return web.json_response({})

    async def drop(self, request: web.Request) -> web.Response:
        """Let it fail."""
        await self._parts.admin.drop(int(request.match_info["id"]), peer(request))
        return web.json_response({})
