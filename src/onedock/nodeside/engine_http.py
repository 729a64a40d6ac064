"""The connection to one Docker engine: calls with deadlines, streams, and errors by meaning.

The only user of aiodocker, whose errors and aiohttp's end here. Called by ``docker`` (verbs) and ``events``.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self

import aiodocker
import aiohttp

from onedock.nodeside.calls import OnCall, counted, uncounted
from onedock.nodeside.engine_errors import NO_CONNECTION, by_status, one_line
from onedock.reconcilers.errors import OnedockError, TerminalError, TransientError

CONNECT_S = 5.0
CALL_S = 30.0
MAX_LINE_BYTES = 16 * 1024 * 1024
"""Of a stream. An event carries all labels of its image, which may be long; without end they may not be."""


class EngineConnection:
    """Connections to one engine, as many as are needed. Use as ``async with``.

    Args:
        url: ``unix:///var/run/docker.sock`` or ``https://host:2376``.
        tls: how to verify and be verified, for ``https``.
        on_call: told of each call but streams.
    """

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None, on_call: OnCall = uncounted) -> None:
        self.url = url
        self._tls = tls
        self._on_call = on_call

    async def __aenter__(self) -> Self:
        """Prepare; the engine need not answer yet. TerminalError: the address makes no sense."""
        scheme, _, path = self.url.partition("://")
        # Events, waits and pulls hold a connection for long: a pool with a limit would starve the others.
        if scheme == "unix" and path:
            self._connector: aiohttp.BaseConnector = aiohttp.UnixConnector(path, limit=0)
        elif scheme == "https" and path:
            self._connector = aiohttp.TCPConnector(limit=0, ssl=self._tls or True)
        else:
            raise TerminalError(f"the engine address {self.url!r} is neither unix://… nor https://…")
        address = "unix://localhost" if scheme == "unix" else self.url
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S)
        self._docker = aiodocker.Docker(address, connector=self._connector, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._docker.close()
        await self._connector.close()  # aiodocker closes only a connector of its own

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        deadline_s: float = CALL_S,
        accept: Collection[int] = (),
        failure: Callable[[int, str], OnedockError] = by_status,
    ) -> Any:
        """One call. Returns the JSON of the answer; None when its status is one of ``accept``.

        Args:
            method: GET, POST…
            path: below the API's version, without a leading slash.
            params: the query.
            body: sent as JSON.
            deadline_s: seconds for the whole call.
            accept: statuses of errors that are as good as success.
            failure: makes the error to raise from the status and the text of any other refusal.
        """
        with counted(self._on_call), self._translated(failure):
            try:
                async with asyncio.timeout(deadline_s):
                    return await self._docker._query_json(path, method, params=params, data=body)
            except TimeoutError:
                raise TransientError(f"the engine did not answer within {deadline_s:g} s: {self.url}") from None
            except aiodocker.DockerError as error:
                if error.status in accept:
                    return None
                raise

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str],
        headers: dict[str, str] | None = None,
        failure: Callable[[int, str], OnedockError] = by_status,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a call that is answered line by line for as long as it takes; deadlines are the caller's.

        The body of the ``async with`` begins when the engine has accepted the call. A stream that breaks raises
        TransientError, one that ends ends.
        """
        with self._translated(failure):
            response = await self._docker._do_query(path, method, params=params, headers=headers)
        try:
            yield self._lines(response.content)
        finally:
            response.close()  # a release would wait for the end of the stream

    async def _lines(self, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        """Split at newlines; the reader's own way refuses lines over 128 KiB."""
        rest = b""
        chunks = content.iter_any()
        while True:
            with self._translated(by_status):
                chunk = await anext(chunks, b"")
            if not chunk:
                if rest.strip():
                    yield rest
                return
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise TransientError(f"the engine's answer has no end: a line of over {MAX_LINE_BYTES} bytes")
            for line in filter(bytes.strip, lines):
                yield line

    @contextmanager
    def _translated(self, failure: Callable[[int, str], OnedockError]) -> Iterator[None]:
        try:
            yield
        except aiodocker.DockerError as error:
            if error.status == NO_CONNECTION:
                raise TransientError(f"the engine cannot be reached: {self.url}: {_cause(error)}") from error
            raise failure(error.status, error.message) from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(f"the engine's answer broke off: {self.url}: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            # aiodocker trusts errors and answers to be the JSON that they should be.
            raise TransientError(f"the engine's answer is not understood: {self.url}: {error}") from error


def _cause(error: aiodocker.DockerError) -> str:
    return one_line(str(error.__context__ or error.message))
