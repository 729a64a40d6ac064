"""The agent's threads: what blocks is done in them, each kind of work apart from the others."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_WANDERERS = 8
_WRITERS = 4
_LOOKERS = 2


class Workers:
    """Pools of threads, to be closed."""

    def __init__(self) -> None:
        self.wanderers = ThreadPoolExecutor(_WANDERERS, thread_name_prefix="netns")
        """They wander between namespaces: nothing else may run in them."""
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="disk")
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="flush")
        # These take their time to look: nobody who plugs waits for them.
        self._lookers = ThreadPoolExecutor(_LOOKERS, thread_name_prefix="path")

    async def in_namespaces(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it in a thread that belongs to namespaces."""
        return await _run(self.wanderers, partial(function, *args, **kwargs))

    async def at_leisure(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it in another thread that belongs to namespaces: it is long, and only one user waits for it."""
        return await _run(self._lookers, partial(function, *args, **kwargs))

    async def on_disk(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write files of one VM."""
        return await _run(self._writers, partial(function, *args, **kwargs))

    def flush(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin to wait for the disk, one after the other."""
        return self._flusher.submit(function, *args, **kwargs)

    async def close(self) -> None:
        """Let everything that has begun end."""
        for threads in (self.wanderers, self._lookers, self._writers, self._flusher):
            await asyncio.to_thread(threads.shutdown)


async def _run(threads: Executor, call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, call)
