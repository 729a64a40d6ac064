"""The XML-RPC door: session, dispatch and the answer array of OpenNebula (protocol reference 11.1)."""

import inspect
import xmlrpc.client
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from xml.parsers.expat import ExpatError

import structlog
from aiohttp import web

log = structlog.get_logger()

AUTHENTICATION = 0x100
NO_EXISTS = 0x400
ACTION = 0x800
XML_RPC_API = 0x1000
INTERNAL = 0x2000
ALLOCATE = 0x4000

MAX_REQUEST_BYTES = 64 << 20

Method = Callable[..., Any | Awaitable[Any]]


class ApiError(Exception):
    """A call fails: the text (the method is put in front), the error code and the object it is about."""

    def __init__(self, code: int, text: str, object_id: int = -1) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.object_id = object_id


def application(methods: Mapping[str, Method], session: str) -> web.Application:
    """A web application that answers ``POST /RPC2``.

    Args:
        methods: Method name → function of the parameters after the session.
        session: The only ``user:password`` that is let in.
    """

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        try:
            parameters, name = xmlrpc.client.loads(body)
        except (ExpatError, xmlrpc.client.Error, ValueError, TypeError) as error:
            return web.Response(status=400, text=f"no XML-RPC call: {error}")
        result = await _call(methods, session, name or "", list(parameters))
        text = xmlrpc.client.dumps((result,), methodresponse=True)
        return web.Response(body=text.encode("utf-8", errors="replace"), content_type="text/xml", charset="utf-8")

    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app.router.add_post("/RPC2", answer)
    return app


async def _call(methods: Mapping[str, Method], session: str, name: str, parameters: list[Any]) -> list[Any]:
    method = methods.get(name)
    if method is None:
        return [False, f"[{name}] Method not defined in this lab's OpenNebula", XML_RPC_API, -1, -1]
    if not parameters or parameters[0] != session:
        return [False, f"[{name}] User couldn't be authenticated, aborting call.", AUTHENTICATION, -1, -1]
    try:
        inspect.signature(method).bind(*parameters[1:])
    except TypeError as error:
        return [False, f"[{name}] Wrong parameters: {error}", XML_RPC_API, -1, -1]
    try:
        value = method(*parameters[1:])
        if inspect.isawaitable(value):
            value = await value
    except ApiError as error:
        return [False, f"[{name}] {error.text}", error.code, error.object_id, -1]
    except Exception as error:
        log.exception("call failed", method=name)
        return [False, f"[{name}] Internal error: {error}", INTERNAL, -1, -1]
    return [True, value, 0]
