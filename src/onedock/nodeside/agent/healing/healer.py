"""When a VM's network is looked at again: soon after a notification, later and later if it is always undone."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from onedock.nodeside.heals import Cause, Healed, Heals
from onedock.reconcilers.errors import OnedockError
from onedock.reconcilers.model import VmId

log = structlog.get_logger()

_BURST_S = 0.15
"""One damage is several notifications, and a look costs some milliseconds."""
_AT_ONCE_S = 1.0
"""What is undone within this time was not meant for us to repair; more seldom, each time is a case of its own."""
_LONGEST_S = 60.0
_AT_A_TIME = 4
"""Fewer than the agent has threads: those who ask for networks are served meanwhile."""
_REMEMBERED = 200
_STEPS_LOGGED = 12


@dataclass(frozen=True, slots=True)
class _Mark:
    cause: Cause
    since: float


@dataclass(frozen=True, slots=True)
class _Past:
    """How the last attempt on a VM ended."""

    ended: float
    steps: frozenset[str]
    error: str = ""
    pause_s: float = 0.0


class Healer:
    """Marks, timers and counters. ``mark`` and ``clear`` may be called in any thread, all else in the event loop."""

    def __init__(self, heal: Callable[[VmId], Awaitable[tuple[str, ...]]]) -> None:
        """``heal`` makes a VM's network as it was last wanted, and returns what had to be done, in words."""
        self._heal = heal
        self._loop = asyncio.get_running_loop()
        self._marks: dict[VmId, _Mark] = {}
        self._timers: dict[VmId, asyncio.TimerHandle] = {}
        self._tasks: dict[VmId, asyncio.Task[None]] = {}
        self._past: dict[VmId, _Past] = {}
        self._turns = asyncio.Semaphore(_AT_A_TIME)
        self._recent: deque[Healed] = deque(maxlen=_REMEMBERED)
        self._counts: Counter[Cause] = Counter()

    def mark(self, vm: VmId, cause: Cause) -> None:
        """The VM's network may be broken."""
        if vm not in self._marks:
            self._marks[vm] = _Mark(cause, self._loop.time())
            self._loop.call_soon_threadsafe(self._schedule, vm)

    def clear(self, vm: VmId) -> None:
        """Somebody is about to look at everything that the marks until now were about."""
        self._marks.pop(vm, None)

    def forget(self, vm: VmId) -> None:
        """The VM is no more."""
        self.clear(vm)
        self._past.pop(vm, None)
        if timer := self._timers.pop(vm, None):
            timer.cancel()

    def heals(self, since: int) -> Heals:
        """All counts, and the latest heals of those numbered above ``since``."""
        return Heals(dict(self._counts), tuple(one for one in self._recent if one.number > since))

    async def look(self, vm: VmId, cause: Cause) -> None:
        """Look now, and again later when it fails."""
        await self._run(vm, _Mark(cause, self._loop.time()))

    async def close(self) -> None:
        """Begin nothing any more, and let what has begun end."""
        for vm in tuple(self._timers):
            self.forget(vm)
        while tasks := tuple(self._tasks.values()):
            self._marks.clear()
            await asyncio.gather(*tasks)

    def _schedule(self, vm: VmId) -> None:
        if vm in self._timers or vm in self._tasks or vm not in self._marks:
            return
        now = self._loop.time()
        past = self._past.get(vm)
        pause = max(_BURST_S, past.ended + past.pause_s - now) if past else _BURST_S
        self._timers[vm] = self._loop.call_later(pause, self._start, vm)

    def _start(self, vm: VmId) -> None:
        del self._timers[vm]
        if mark := self._marks.pop(vm, None):
            task = self._tasks[vm] = self._loop.create_task(self._run(vm, mark))
            task.add_done_callback(lambda _: self._done(vm))

    def _done(self, vm: VmId) -> None:
        del self._tasks[vm]
        self._schedule(vm)

    async def _run(self, vm: VmId, mark: _Mark) -> None:
        try:
            async with self._turns:
                steps = await self._heal(vm)
        except (OnedockError, OSError) as error:
            self._failed(vm, str(error))
        except Exception as error:  # a bug with one VM must not keep it, or others, from being healed
            log.exception("healing failed", vm=vm)
            self._failed(vm, repr(error))
        else:
            self._succeeded(vm, mark, steps)

    def _failed(self, vm: VmId, error: str) -> None:
        past = self._past.get(vm)
        pause = _longer(past.pause_s if past and past.error else 0.0)
        if past is None or past.error != error:
            log.warning("network cannot be put back", vm=vm, error=error, next_look_s=pause)
        self._past[vm] = _Past(self._loop.time(), frozenset(), error, pause)
        self.mark(vm, Cause.RETRY)

    def _succeeded(self, vm: VmId, mark: _Mark, steps: tuple[str, ...]) -> None:
        past = self._past.pop(vm, None)
        if not steps:
            return
        now = self._loop.time()
        healed = Healed(self._counts.total() + 1, vm, mark.cause, steps, round(now - mark.since, 3))
        self._counts[mark.cause] += 1
        self._recent.append(healed)
        log.info(
            "network healed", vm=vm, cause=mark.cause, what=steps[:_STEPS_LOGGED], steps=len(steps),
            seconds=healed.seconds,
        )  # fmt: skip
        back = past.steps & set(steps) if past and mark.since - past.ended < _AT_ONCE_S else frozenset()
        pause = _longer(past.pause_s) if past and back else 0.0
        if back:
            log.warning("something on the node undoes the network", vm=vm, what=sorted(back), next_look_s=pause)
        self._past[vm] = _Past(now, frozenset(steps), pause_s=pause)


def _longer(pause_s: float) -> float:
    return min(_LONGEST_S, pause_s * 2) if pause_s else 1.0
