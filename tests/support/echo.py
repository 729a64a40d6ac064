"""An echo in a VM of a cloud, and TCP connections to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.support.cloud import Cloud
from tests.support.waiting import eventually

PORT = 7000
SERVE = f"nc -ll -p {PORT} -e cat & while :; do sleep 0.1; done"
"""Shell commands of an image."""


async def listening(cloud: Cloud, vm: int) -> str:
    """The VM's first address, once its echo listens."""
    await eventually(lambda: f":{PORT} " in cloud.run_in(vm, "/bin/busybox", "netstat", "-ltn"), what="the VM listens")
    address = (await cloud.one.vm(vm)).findtext("TEMPLATE/NIC/IP")
    assert address
    return address


@contextlib.asynccontextmanager
async def conversation(
    cloud: Cloud, address: str, *, within: float = 20.0
) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """One connection to an echo: the value says a word and hears it. TimeoutError: not within so many seconds."""
    argv = ["nsenter", f"--net=/run/netns/{cloud.engine.netns}", "busybox", "nc", address, str(PORT)]
    client = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert client.stdin is not None
    assert client.stdout is not None
    sink, source = client.stdin, client.stdout

    async def say(word: str) -> None:
        sink.write(f"{word}\n".encode())
        async with asyncio.timeout(within):
            assert await source.readline() == f"{word}\n".encode()

    try:
        yield say
    finally:
        with contextlib.suppress(ProcessLookupError):
            client.kill()
        await client.wait()
