"""Asynchronous client of oned's XML-RPC API (protocol reference 11). The only importer of pyone.

pyone's own transport blocks, opens a connection per call and cannot be bounded in time, so requests travel over
aiohttp; pyone gives the constants and the bindings of small documents. VM documents are read by ``documents``, the
same parser that reads driver messages: bindings of a pool of 10 000 VMs cost three times as much.
"""

import asyncio
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self
from xml.parsers.expat import ExpatError, ParserCreate

import aiohttp
from pyone import LCM_STATE, VM_STATE, bindings

from onedock.config.settings import OpenNebulaSettings
from onedock.controller.documents import VmDocument, parse_vm
from onedock.controller.xml import parse_children, parse_xml
from onedock.nodeside.calls import counted
from onedock.reconcilers.errors import NotFoundError, TerminalError, TransientError
from onedock.reconcilers.model import VmId

__all__ = ["LCM_STATE", "VM_STATE", "Host", "Oned"]

_NO_EXISTS = 0x400
_AUTHENTICATION = 0x100
_AUTHORIZATION = 0x200
_INTERNAL = 0x2000
_REPLICATION = 0x10000
_TEXT_BYTES = 1 << 20
MAX_CONNECTIONS = 4
"""oned serves 15 connections in all (MAX_CONN); users need some."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host of OpenNebula."""

    id: int
    name: str
    state: int
    vm_mad: str


class Oned:
    """Calls to one oned.

    Args:
        deadline_s: seconds for one call.
        on_call: told of each call: method without ``one.``, ``ok``, ``refused`` or ``failed``, seconds.

    Raises:
        TransientError: oned does not answer, or is not the leader.
        NotFoundError: the object does not exist.
        TerminalError: oned refuses the call.
    """

    def __init__(
        self,
        settings: OpenNebulaSettings,
        *,
        deadline_s: float = 30.0,
        on_call: Callable[[str, str, float], None] = lambda method, result, seconds: None,
    ) -> None:
        self._settings = settings
        self._on_call = on_call
        self._timeout = aiohttp.ClientTimeout(total=deadline_s, sock_connect=5)
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool; oned need not run yet."""
        connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=10)
        self._http = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    def _session(self) -> str:
        path = self._settings.auth_file
        try:
            return path.read_text().strip()
        except OSError as error:
            raise TransientError(f"oned's credentials {path} cannot be read: {error.strerror}") from error

    async def call(self, method: str, *args: Any) -> Any:
        """Call ``one.<method>`` and return its value."""
        with counted(partial(self._on_call, method)):
            return await self._call(method, *args)

    async def _call(self, method: str, *args: Any) -> Any:
        assert self._http is not None, "Oned is used inside `async with`"
        body = xmlrpc.client.dumps((await asyncio.to_thread(self._session), *args), f"one.{method}", encoding="utf-8")
        try:
            async with self._http.post(
                self._settings.endpoint, data=body.encode(), headers={"Content-Type": "text/xml"}
            ) as response:
                answer = await response.read()
            result, *_ = await asyncio.to_thread(_loads, answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            detail = str(error) or type(error).__name__
            raise TransientError(f"oned does not answer at {self._settings.endpoint}: {detail}") from error
        except (ExpatError, xmlrpc.client.Error, ValueError) as error:
            raise TransientError(f"oned's answer to one.{method} is not XML-RPC: {error}") from error
        if not isinstance(result, list) or len(result) < 2:
            raise TransientError(f"oned's answer to one.{method} is not a result: {str(result)[:80]}")
        if result[0]:
            return result[1]
        raise _refusal(method, str(result[1]), int(result[2]) if len(result) > 2 else 0)

    async def vm(self, vm: VmId) -> VmDocument:
        """The VM as oned sees it now, with its full template. NotFoundError: no such VM."""
        return parse_vm(parse_xml(await self.call("vm.info", vm, False)))

    async def vm_xml(self, vm: VmId) -> str:
        """The VM's document as text."""
        return str(await self.call("vm.info", vm, False))

    async def vms(self) -> tuple[VmDocument, ...]:
        """All VMs that are not DONE, in short form: state, last history record, no context."""
        text = await self.call("vmpool.info", -2, -1, -1, -1)
        return await asyncio.to_thread(_parse_pool, text)

    async def hosts(self) -> tuple[Host, ...]:
        """All hosts."""
        pool = bindings.parseString((await self.call("hostpool.info")).encode())
        return tuple(Host(id=h.ID, name=h.NAME, state=h.STATE, vm_mad=h.VM_MAD) for h in pool.HOST)

    async def image_attributes(self, image_id: int) -> dict[str, str]:
        """The single attributes of an image's TEMPLATE: DOCKERRUN and its like."""
        template = parse_xml(await self.call("image.info", image_id, False)).find("TEMPLATE")
        return {} if template is None else {item.tag: item.text or "" for item in template if len(item) == 0}

    async def act(self, vm: VmId, action: str) -> None:
        """``onevm <action>``."""
        await self.call("vm.action", action, vm)


def _loads(answer: bytes) -> tuple[Any, ...]:
    """What ``xmlrpc.client.loads`` does, with text in large pieces.

    oned's documents are escaped inside of the answer, so that a reference comes every few bytes: each would end a
    piece of its own, a million of them in a large pool.
    """
    unmarshaller = xmlrpc.client.Unmarshaller()
    unmarshaller.xml("", None)  # no encoding: expat gives text
    parser = ParserCreate()
    parser.buffer_text, parser.buffer_size = True, _TEXT_BYTES
    parser.StartElementHandler = unmarshaller.start
    parser.EndElementHandler = unmarshaller.end
    parser.CharacterDataHandler = unmarshaller.data
    parser.Parse(answer, True)
    return unmarshaller.close()


def _parse_pool(text: str) -> tuple[VmDocument, ...]:
    return tuple(parse_vm(element) for element in parse_children(text) if element.tag == "VM")


def _refusal(method: str, message: str, code: int) -> Exception:
    if code == _NO_EXISTS:
        return NotFoundError(message)
    if code == _AUTHENTICATION:
        return TransientError(f"oned refuses the credentials of opennebula.auth_file: {message}")
    if code in {_INTERNAL, _REPLICATION}:
        return TransientError(f"oned cannot serve one.{method} now: {message}")
    if code == _AUTHORIZATION:
        return TerminalError(
            f"oned does not allow one.{method}; opennebula.auth_file must be an administrator's: {message}"
        )
    return TerminalError(f"oned refuses one.{method}: {message}")
