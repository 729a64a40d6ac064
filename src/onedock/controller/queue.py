"""The keyed work queue: one entry per VM, soonest time wins, one worker per key, growing delays after failures."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
EARLY_S = 0.001
"""What is due within this is due: a timer may fire a little early, and waiting for the rest would spin."""


class KeyedQueue(Generic[K]):
    """Keys that are due, each at most once and never with two workers at a time.

    Keys that are due come out in the order in which they became due: a key that is added again and again cannot
    starve another one.

    Args:
        backoff: seconds to wait after the n-th failure in a row (n from 1).
    """

    def __init__(self, backoff: Callable[[int], float]) -> None:
        self._backoff = backoff
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._busy: set[K] = set()
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()
        self._getting = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._due)

    def due_in(self, key: K) -> float | None:
        """In how many seconds a key is due, not below 0; None: nobody waits for it."""
        when = self._due.get(key)
        return None if when is None else max(0.0, when - asyncio.get_running_loop().time())

    def oldest_s(self) -> float:
        """How long the key that is due longest has waited; 0: none is due."""
        return max(0.0, asyncio.get_running_loop().time() - min(self._due.values())) if self._due else 0.0

    def add(self, key: K, *, after: float = 0.0) -> None:
        """Make ``key`` due ``after`` seconds from now, or keep it if it is due sooner."""
        when = asyncio.get_running_loop().time() + after
        known = self._due.get(key)
        if known is not None and known <= when:
            return
        self._due[key] = when
        heapq.heappush(self._heap, (when, next(self._order), key))
        self._changed.set()

    async def get(self) -> K:
        """Wait for a key that is due and that no other worker has. ``done`` must follow."""
        loop = asyncio.get_running_loop()
        async with self._getting:  # one worker waits for all: else every change would wake every one of them
            while True:
                self._changed.clear()
                key, wait = self._pop(loop.time())
                if key is not None:
                    return key
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    pass

    def _pop(self, now: float) -> tuple[K | None, float | None]:
        """The next key, or how long to wait for one (None: until something is added)."""
        held: list[tuple[float, int, K]] = []
        found: K | None = None
        wait: float | None = None
        while self._heap:
            when, order, key = self._heap[0]
            if self._due.get(key) != when:
                heapq.heappop(self._heap)  # superseded by a sooner time
                continue
            if when > now + EARLY_S:
                wait = when - now
                break
            heapq.heappop(self._heap)
            if key in self._busy:
                held.append((when, order, key))
                continue
            found = key
            break
        for entry in held:
            heapq.heappush(self._heap, entry)
        if found is not None:
            del self._due[found]
            self._busy.add(found)
        return found, wait

    def done(self, key: K, *, failed: bool = False) -> float:
        """Give the key back. After a failure it is due again later; returns in how many seconds (else 0)."""
        self._busy.discard(key)
        self._changed.set()
        if not failed:
            self._failures.pop(key, None)
            return 0.0
        self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff(self._failures[key])
        self.add(key, after=delay)
        return delay
