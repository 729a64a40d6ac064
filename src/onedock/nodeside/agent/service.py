"""The agent's HTTP service on its unix socket (docs/protocols.md): validate, call, answer."""

import asyncio
from pathlib import Path
from typing import Any, TypeVar

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import TypeAdapter, ValidationError

from onedock import __version__
from onedock.nodeside.agent.cgroups import read_usage
from onedock.nodeside.agent.checkup import examine
from onedock.nodeside.agent.host import HostMeter, read_facts
from onedock.nodeside.agent.networks import NodeNetworks
from onedock.nodeside.agent.validate import InvalidRequestError
from onedock.nodeside.contract import FORM
from onedock.reconcilers.errors import NotFoundError, OnedockError, TerminalError
from onedock.reconcilers.measures import VmUsage
from onedock.reconcilers.model import ContainerId, Network, VmId

log = structlog.get_logger()

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes. A VM with as many security rules as the controller lets it have (16384, with ports and addresses) is below."""
_LONGEST_WAIT_S = 60

_NETWORK: TypeAdapter[Network] = TypeAdapter(Network)
_CONTAINERS: TypeAdapter[list[tuple[VmId, ContainerId, int]]] = TypeAdapter(list[tuple[VmId, ContainerId, int]])

T = TypeVar("T")


class Service:
    """Handlers of all calls."""

    def __init__(
        self, networks: NodeNetworks, meter: HostMeter, root: Path, places: tuple[Path, ...], engine_root: Path
    ) -> None:
        """``root`` is the parent of ``proc`` and ``sys``; ``places`` are the directories that the agent writes.

        ``engine_root`` is the engine's data directory.
        """
        self._engine_root = engine_root
        self._places = places
        self._networks = networks
        self._meter = meter
        self._root = root

    def application(self) -> web.Application:
        """The service, ready to be run."""
        application = web.Application(middlewares=[answer_errors], client_max_size=BODY_LIMIT)
        application.on_shutdown.append(self._end_waiting)
        application.add_routes(
            [
                web.get("/health", self.health),
                web.get("/vms", self.list_vms),
                web.get("/vms/{vm}/network", self.observe),
                web.put("/vms/{vm}/network", self.ensure),
                web.get("/vms/{vm}/path", self.path),
                web.put("/vms/{vm}/containers/{container}", self.bind),
                web.post("/containers/{container}/names", self.names),
                web.delete("/vms/{vm}", self.remove),
                web.post("/vms/{vm}/announce", self.announce),
                web.get("/heals", self.heals),
                web.get("/host/usage", self.host_usage),
                web.get("/host/checkup", self.checkup),
                web.post("/usage", self.usage),
            ]
        )
        return application

    async def health(self, _: web.Request) -> web.Response:
        """Version of the agent, the form of networks that it knows, and facts of the node."""
        return _json({"version": __version__, "network": FORM, "facts": read_facts(self._root)})

    async def list_vms(self, _: web.Request) -> web.Response:
        """VMs with a namespace or kept state."""
        return _json(self._networks.list_vms())

    async def observe(self, request: web.Request) -> web.Response:
        """A VM's network as it is."""
        vm = _vm(request)
        observed = await self._networks.observe(vm)
        if observed is None:
            raise NotFoundError(f"VM {vm} has no network namespace on this node")
        return _json(observed)

    async def ensure(self, request: web.Request) -> web.Response:
        """Make a VM's network so."""
        network = _parse(_NETWORK, await request.read())
        if network.vm != _vm(request):
            raise InvalidRequestError(f"the network is of VM {network.vm}; send it to that VM's address")
        return _json(await self._networks.ensure(network))

    async def path(self, request: web.Request) -> web.Response:
        """The way of a VM's frames to the wire."""
        return _json(await self._networks.path(_vm(request), probe="probe" in request.query))

    async def bind(self, request: web.Request) -> web.Response:
        """Let a container start in a VM's namespace."""
        await self._networks.bind(_vm(request), ContainerId(request.match_info["container"]))
        return web.Response(status=204)

    async def names(self, request: web.Request) -> web.Response:
        """Write a container's name servers, which its engine may just have written."""
        self._networks.follow_engine(ContainerId(request.match_info["container"]))
        return web.Response(status=204)

    async def remove(self, request: web.Request) -> web.Response:
        """Remove everything of a VM."""
        await self._networks.remove(_vm(request))
        return web.Response(status=204)

    async def announce(self, request: web.Request) -> web.Response:
        """Tell a VM's neighbours where its addresses are now."""
        await self._networks.announce(_vm(request))
        return web.Response(status=204)

    async def heals(self, request: web.Request) -> web.Response:
        """What was put back; with ``wait``, in seconds, not before there is something new."""
        since, wait_s = (_number(name, request.query.get(name, "0")) for name in ("since", "wait"))
        return _json(await self._networks.healer.record.news(since, min(wait_s, _LONGEST_WAIT_S)))

    async def _end_waiting(self, _: web.Application) -> None:
        self._networks.healer.record.end()

    async def host_usage(self, _: web.Request) -> web.Response:
        """Load of the node."""
        return _json(self._meter.read())

    async def checkup(self, _: web.Request) -> web.Response:
        """Fitness of the node."""
        return _json(await asyncio.to_thread(examine, self._root, self._places, self._engine_root))

    async def usage(self, request: web.Request) -> web.Response:
        """Counters of containers; those that are gone are left out."""
        wanted = _parse(_CONTAINERS, await request.read())
        return _json(await asyncio.to_thread(self._read_usages, wanted))

    def _read_usages(self, wanted: list[tuple[VmId, ContainerId, int]]) -> list[VmUsage]:
        usages = (read_usage(self._root, *one) for one in wanted)
        return [usage for usage in usages if usage is not None]


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into its status with ``{"error": "cause; remedy"}``."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return _error(400, f"the request is larger than {BODY_LIMIT} bytes; send less at once")
    except web.HTTPException as error:
        return _error(error.status, f"{request.method} {request.path[:80]}: {error.reason}")
    except InvalidRequestError as error:
        return _error(400, str(error))
    except TerminalError as error:
        return _error(409, str(error))
    except NotFoundError as error:
        return _error(404, str(error))
    except OnedockError as error:
        return _error(503, str(error))
    except Exception as error:
        log.exception("request failed", method=request.method, path=request.path)
        return _error(500, f"the node agent failed: {error!r:.200}; its log on the node has the details")


def _vm(request: web.Request) -> VmId:
    return VmId(_number("VM id", request.match_info["vm"]))


def _number(what: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise InvalidRequestError(f"{text[:40]!r} is no {what}; it must be a number")
    return int(text)


def _parse(adapter: TypeAdapter[T], body: bytes) -> T:
    try:
        return adapter.validate_json(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise InvalidRequestError(f"{where[:60]}: {first['msg'][:200]}; correct the request") from error


def _json(value: Any) -> web.Response:
    return web.Response(body=_ANY.dump_json(value), content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


_ANY: TypeAdapter[Any] = TypeAdapter(Any)
