"""The registry of the images, asked now."""

import asyncio

import aiohttp
from aiohttp import web

from onedock.controller.api.parts import Parts
from onedock.controller.images.registry import Registry
from onedock.reconcilers.errors import OnedockError

DEADLINE_S = 3.0


class RegistryView:
    """``/registry``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[web.RouteDef]:
        """What is served here."""
        return [web.get("/registry", self.registry)]

    async def registry(self, request: web.Request) -> web.Response:
        """Address, and why it cannot be used; empty when it can."""
        return web.json_response({"address": self._parts.settings.registry.address, "error": await self._why_not()})

    async def _why_not(self) -> str:
        wanted = self._parts.settings.registry
        plain = not wanted.tls or wanted.address in wanted.insecure_sources
        try:
            async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(trust_env=True) as session:
                name = wanted.address
                await Registry(session, name, wanted.repository, plain=plain, auth_file=wanted.auth_file).ping()
        except TimeoutError:
            return f"no answer within {DEADLINE_S:g} s"
        except OnedockError as error:
            return str(error)
        return ""
