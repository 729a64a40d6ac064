"""What the controller asks of oned, answered at once from memory: the XML-RPC side of a benchmark's OpenNebula."""

import xmlrpc.client
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from bench.documents import BenchVm, host_entry, pool_entry, vm_document

ACTIVE, RUNNING = 3, 3
POWEROFF = 8


class MemoryOned:
    """``async with MemoryOned(nodes) as oned``; VMs in ``vms`` are ACTIVE and RUNNING."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._nodes = tuple(nodes)
        self.vms: dict[int, BenchVm] = {}
        self.stopped: set[int] = set()
        """VMs that are in POWEROFF instead."""
        self.port = 0
        self._pool: tuple[frozenset[int], bytes] | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/RPC2", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/RPC2"

    async def _answer(self, request: web.Request) -> web.Response:
        arguments, method = xmlrpc.client.loads(await request.read())
        if method == "one.vmpool.info":
            return _xml(self._pool_answer())
        return _xml(_dump(self._value(method, arguments)))

    def _value(self, method: str | None, arguments: tuple[Any, ...]) -> list[Any]:
        match method:
            case "one.hostpool.info":
                hosts = "".join(host_entry(name, number) for number, name in enumerate(self._nodes))
                return [True, f"<HOST_POOL>{hosts}</HOST_POOL>", 0]
            case "one.image.info":
                return [True, "<IMAGE><TEMPLATE></TEMPLATE></IMAGE>", 0]
            case "one.vm.info":
                vm = self.vms.get(int(arguments[1]))
                if vm is None:
                    return [False, "no such VM", 0x400]
                state = (POWEROFF, 0) if vm.id in self.stopped else (ACTIVE, RUNNING)
                return [True, vm_document(vm, *state), 0]
            case _:
                return [False, f"{method} is not served here", 0x2000]

    def pool(self) -> str:
        """The document that ``one.vmpool.info`` answers."""
        return f"<VM_POOL>{''.join(pool_entry(vm, ACTIVE, RUNNING) for vm in self.vms.values())}</VM_POOL>"

    def _pool_answer(self) -> bytes:
        ids = frozenset(self.vms)
        if self._pool is None or self._pool[0] != ids:
            self._pool = (ids, _dump([True, self.pool(), 0]))
        return self._pool[1]


def _dump(value: list[Any]) -> bytes:
    return xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode()


def _xml(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="text/xml")
