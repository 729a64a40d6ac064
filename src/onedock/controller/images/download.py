"""Archives given by http(s): how large they are, and fetching them within that size."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import structlog
from yarl import URL

from onedock.controller.images.archive import HEAD, is_compressed
from onedock.controller.images.failures import connection_error
from onedock.controller.images.source import RemoteArchive
from onedock.reconcilers.errors import TerminalError, TransientError

_log = structlog.get_logger(__name__)
_CHUNK = 1024 * 1024
_PROGRESS_S = 10.0
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_read=60)


async def remote_size(session: aiohttp.ClientSession, archive: RemoteArchive) -> int | None:
    """Bytes of a remote archive, of which only the beginning is read; None: its server does not tell.

    Raises TerminalError (not there, or no archive) or TransientError.
    """
    async with _answer(session, archive) as response:
        head = bytearray()
        while len(head) < HEAD and (chunk := await response.content.read(HEAD - len(head))):
            head += chunk
        is_compressed(bytes(head))
        return response.content_length


async def download(session: aiohttp.ClientSession, archive: RemoteArchive, target: Path, *, limit_bytes: int) -> None:
    """Write a remote archive to the new file ``target``. Raises TerminalError or TransientError.

    ``limit_bytes`` is what was accounted to the user when the image was registered.
    """
    loop = asyncio.get_running_loop()
    received, reported = 0, loop.time()
    async with _answer(session, archive) as response:
        file = await asyncio.to_thread(target.open, "xb")
        with file:
            async for chunk in response.content.iter_chunked(_CHUNK):
                received += len(chunk)
                if received > limit_bytes:
                    raise TerminalError(
                        f"{archive} is larger than the image's SIZE of {limit_bytes // 1024**2} MB: "
                        "register the image anew"
                    )
                await asyncio.to_thread(file.write, chunk)
                if loop.time() - reported > _PROGRESS_S:
                    reported = loop.time()
                    _log.info(
                        "downloading archive",
                        url=str(archive),
                        received_bytes=received,
                        total_bytes=response.content_length,
                    )


@asynccontextmanager
async def _answer(session: aiohttp.ClientSession, archive: RemoteArchive) -> AsyncIterator[aiohttp.ClientResponse]:
    url = URL(archive.url)
    try:
        async with session.get(url, timeout=_TIMEOUT, max_redirects=5) as response:
            if response.status != 200:
                raise _refused(archive, response.status)
            yield response
    except (aiohttp.ClientError, TimeoutError) as error:
        raise connection_error(error, url.authority.rpartition("@")[2]) from error


def _refused(archive: RemoteArchive, status: int) -> TerminalError | TransientError:
    match status:
        case 404 | 410:
            return TerminalError(f"{archive} not found: correct the URL")
        case 401 | 403:
            return TerminalError(f"{archive}: access denied: write https://USER:PASSWORD@HOST/PATH")
        case 429:
            return TransientError(f"{archive}: its server limits the rate of requests: wait")
        case _ if status >= 500:
            return TransientError(f"{archive}: its server has a problem of its own (HTTP {status}): try later")
    return TerminalError(f"{archive}: refused with HTTP {status}: correct the URL")
