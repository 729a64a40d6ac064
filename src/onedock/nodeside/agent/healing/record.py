"""What was put back, for those who ask and for those who wait to be told."""

import asyncio
import time
from collections import Counter, deque
from contextlib import suppress

from onedock.nodeside.heals import Cause, Healed, Heals
from onedock.reconcilers.model import VmId

_REMEMBERED = 2000
"""Some damage is that of all VMs of a node."""


class Record:
    """Counts since the agent's start, and the latest heals. For the event loop alone."""

    def __init__(self) -> None:
        self._started = time.time()
        self._recent: deque[Healed] = deque(maxlen=_REMEMBERED)
        self._counts: Counter[Cause] = Counter()
        self._news = asyncio.Event()
        self._ended = False

    def add(self, vm: VmId, cause: Cause, steps: tuple[str, ...], seconds: float) -> Healed:
        """One more, ``seconds`` after its first notification."""
        healed = Healed(self._counts.total() + 1, vm, cause, steps, round(seconds, 3), time.time())
        self._counts[cause] += 1
        self._recent.append(healed)
        news, self._news = self._news, asyncio.Event()
        news.set()
        return healed

    def heals(self, since: int) -> Heals:
        """All counts, and the latest heals of those numbered above ``since``."""
        recent = tuple(one for one in self._recent if one.number > since)
        return Heals(dict(self._counts), recent, self._started)

    async def news(self, since: int, wait_s: float) -> Heals:
        """The same, after so long at most, or as soon as there is one of those.

        At once for a number that there has never been: it is that of an earlier start.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._counts.total() == since and not self._ended:
                    await self._news.wait()
        return self.heals(since)

    def end(self) -> None:
        """Let nobody wait any more."""
        self._ended = True
        self._news.set()
