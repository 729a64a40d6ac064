"""The controller's side of a node agent: ``ports.Networks`` and ``ports.Metrics`` over its unix socket."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
from pydantic import TypeAdapter, ValidationError

from onedock.nodeside.checkup import Checkup
from onedock.nodeside.contract import FIRST_FORM, beyond
from onedock.nodeside.heals import Heals
from onedock.reconcilers.errors import NotFoundError, TerminalError, TransientError
from onedock.reconcilers.measures import HostFacts, HostUsage, VmUsage
from onedock.reconcilers.model import (
    ContainerId,
    Network,
    ObservedNetwork,
    VmId,
)
from onedock.reconcilers.path import VmPath

_NETWORK: TypeAdapter[Network] = TypeAdapter(Network)
_OBSERVED: TypeAdapter[ObservedNetwork] = TypeAdapter(ObservedNetwork)
_PATH: TypeAdapter[VmPath] = TypeAdapter(VmPath)
_VMS: TypeAdapter[tuple[VmId, ...]] = TypeAdapter(tuple[VmId, ...])
_FACTS: TypeAdapter[HostFacts] = TypeAdapter(HostFacts)
_HOST_USAGE: TypeAdapter[HostUsage] = TypeAdapter(HostUsage)
_CONTAINERS: TypeAdapter[Sequence[tuple[VmId, ContainerId, int]]] = TypeAdapter(Sequence[tuple[VmId, ContainerId, int]])
_CHECKUP: TypeAdapter[Checkup] = TypeAdapter(Checkup)
_HEALS: TypeAdapter[Heals] = TypeAdapter(Heals)
_USAGES: TypeAdapter[tuple[VmUsage, ...]] = TypeAdapter(tuple[VmUsage, ...])
_JSON: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])

_ERROR_CHARS = 500

T = TypeVar("T")


class AgentClient:
    """One node's agent: ``async with AgentClient(path) as agent``. Calls may run at the same time."""

    def __init__(self, socket: Path, *, node: str = "", deadline_s: float = 30.0) -> None:
        """``deadline_s`` bounds each call; what was asked may have been done nevertheless.

        ``node`` is the name of the agent's node, for messages.
        """
        self._socket = socket
        self._node = node
        self._deadline_s = deadline_s
        self._form = FIRST_FORM

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._socket), limit=0),
            timeout=aiohttp.ClientTimeout(total=self._deadline_s),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def version(self) -> str:
        """Version of the agent's release."""
        return str((await self._health()).get("version", ""))

    async def observe(self, vm: VmId) -> ObservedNetwork | None:
        """See ``ports.Networks.observe``."""
        try:
            return await self._get(f"/vms/{vm}/network", _OBSERVED)
        except NotFoundError:
            return None

    async def ensure(self, network: Network) -> ObservedNetwork:
        """See ``ports.Networks.ensure``. TransientError: the agent is of a release that does not know all of it."""
        await self._check_known(network)
        body = _NETWORK.dump_json(network)
        return self._parse(await self._call("PUT", f"/vms/{network.vm}/network", body), _OBSERVED)

    async def path(self, vm: VmId, *, probe: bool = False) -> VmPath:
        """The way of the VM's frames to the wire; ``probe``: gateways are looked for. NotFoundError: no network."""
        return await self._get(f"/vms/{vm}/path{'?probe' if probe else ''}", _PATH)

    async def bind(self, vm: VmId, container: ContainerId) -> None:
        """See ``ports.Networks.bind``. NotFoundError: the VM has no namespace yet."""
        await self._call("PUT", f"/vms/{vm}/containers/{container}")

    async def remove(self, vm: VmId) -> None:
        """See ``ports.Networks.remove``."""
        await self._call("DELETE", f"/vms/{vm}")

    async def announce(self, vm: VmId) -> None:
        """See ``ports.Networks.announce``. NotFoundError: the VM has no namespace."""
        await self._call("POST", f"/vms/{vm}/announce")

    async def heals(self, *, since: int = 0, wait_s: int = 0) -> Heals:
        """Networks that were put back since the agent's start; the latest of those numbered above ``since``.

        The answer comes when there is one of those, or after ``wait_s``, which must be below the deadline of calls.
        """
        return await self._get(f"/heals?since={since}&wait={wait_s}", _HEALS)

    async def list_vms(self) -> tuple[VmId, ...]:
        """See ``ports.Networks.list_vms``."""
        return await self._get("/vms", _VMS)

    async def host_facts(self) -> HostFacts:
        """See ``ports.Metrics.host_facts``."""
        facts = (await self._health()).get("facts")
        try:
            return _FACTS.validate_python(facts)
        except ValidationError as error:
            raise self._nonsense(error) from error

    async def host_usage(self) -> HostUsage:
        """See ``ports.Metrics.host_usage``."""
        return await self._get("/host/usage", _HOST_USAGE)

    async def checkup(self) -> Checkup:
        """The node's fitness. NotFoundError: the agent is of a release that cannot tell."""
        return await self._get("/host/checkup", _CHECKUP)

    async def vm_usage(self, containers: Sequence[tuple[VmId, ContainerId, int]]) -> tuple[VmUsage, ...]:
        """See ``ports.Metrics.vm_usage``."""
        return self._parse(await self._call("POST", "/usage", _CONTAINERS.dump_json(containers)), _USAGES)

    async def _health(self) -> dict[str, Any]:
        health = await self._get("/health", _JSON)
        form = health.get("network")
        self._form = form if isinstance(form, int) else FIRST_FORM
        return health

    async def _check_known(self, network: Network) -> None:
        if not beyond(network, self._form):
            return
        # It may be another agent by now.
        await self._health()
        if unknown := beyond(network, self._form):
            where = f"node {self._node}" if self._node else f"the node of {self._socket}"
            raise TransientError(
                f"the agent of {where} is too old for {', '.join(unknown)};"
                " upgrade onedock there and restart onedock-agent, nothing was changed"
            )

    async def _get(self, path: str, adapter: TypeAdapter[T]) -> T:
        return self._parse(await self._call("GET", path), adapter)

    def _parse(self, body: bytes, adapter: TypeAdapter[T]) -> T:
        try:
            return adapter.validate_json(body)
        except ValidationError as error:
            raise self._nonsense(error) from error

    def _nonsense(self, error: ValidationError) -> TransientError:
        return TransientError(
            f"node agent at {self._socket} answers in another form; is it of this release? {error!s:.200}"
        )

    async def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Send one request and return the answer's body. Errors as in docs/protocols.md."""
        try:
            async with self._session.request(method, f"http://agent{path}", data=body) as response:
                answer = await response.read()
        except TimeoutError as error:
            raise TransientError(
                f"node agent at {self._socket} did not answer in {self._deadline_s:g} s; look at its log"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(
                f"node agent at {self._socket} cannot be reached; is onedock-agent running? ({error})"
            ) from error
        if response.status < 300:
            return answer
        message = self._error_in(answer) or f"node agent at {self._socket} answered {response.status}"
        match response.status:
            case 400 | 409:
                raise TerminalError(message)
            case 404:
                raise NotFoundError(message)
            case _:
                raise TransientError(message)

    @staticmethod
    def _error_in(answer: bytes) -> str:
        try:
            return str(_JSON.validate_json(answer).get("error", ""))[:_ERROR_CHARS]
        except ValidationError:
            return ""
