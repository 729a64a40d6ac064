"""When a VM's network is looked at again: soon after a notification, later and later if it is always undone."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import structlog

from onedock.nodeside.agent.healing.record import Record
from onedock.nodeside.heals import Cause
from onedock.reconcilers.errors import OnedockError
from onedock.reconcilers.model import VmId

log = structlog.get_logger()

_BURST_S = 0.15
"""One damage is several notifications, and a look costs some milliseconds.

Nobody waits for more of filters: a transaction is told as a whole, and what they kept back passes meanwhile.
"""
_AT_ONCE_S = 1.0
"""What is undone within this time was not meant for us to repair; more seldom, each time is a case of its own."""
_LONGEST_S = 60.0
_AT_A_TIME = 4
"""Fewer than the agent has threads: those who ask for networks are served meanwhile."""
_SLOW_S = 0.5
"""A look that takes longer waits for something, such as a switch that does not answer, and keeps nobody from his."""
_LOAD_RULES = "load rules "
"""How the step reads that an agent does at its start in any case: what an earlier one has loaded is not known."""
_STEPS_LOGGED = 12


@dataclass(frozen=True, slots=True)
class _Mark:
    cause: Cause
    since: float
    shared: bool = False
    """Others may be broken by the same: they wait for each other, and nobody else for them."""
    put_back: bool = False
    """It was put back together with another VM, and only has to be made sure of."""

    @property
    def urgency(self) -> tuple[bool, bool, float]:
        """The least goes first."""
        return self.put_back, self.shared, self.since


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
        self._waiting: set[VmId] = set()
        self._tasks: dict[VmId, asyncio.Task[None]] = {}
        self._turns: set[VmId] = set()
        self._looked_at: dict[VmId, _Mark] = {}
        self._done_meanwhile: dict[VmId, frozenset[str]] = {}
        """By others, for those who are being looked at and may be about to do the same."""
        self._found_whole: dict[VmId, _Mark] = {}
        """By the last look, maybe because others had done it all and have not said so yet."""
        self._past: dict[VmId, _Past] = {}
        self._first_looks = asyncio.Semaphore(_AT_A_TIME)
        self.record = Record()

    def mark(self, vm: VmId, cause: Cause, shared: bool = False) -> None:
        """The VM's network may be broken, by something that may have broken those of others as well."""
        mark = self._marks.get(vm)
        if mark is None or mark.put_back:
            self._set(vm, _Mark(cause, self._loop.time(), shared))
            return
        # What a router says breaks nothing: with something else in the same burst, that is the cause.
        first = cause if mark.cause is Cause.ADVERTISED else mark.cause
        if (merged := replace(mark, cause=first, shared=mark.shared and shared)) != mark:
            self._set(vm, merged)

    def clear(self, vm: VmId) -> None:
        """Somebody is about to look at everything that the marks until now were about."""
        self._marks.pop(vm, None)
        self._found_whole.pop(vm, None)

    def put_back(self, vm: VmId, steps: tuple[str, ...]) -> None:
        """So much was done for the VM while another one was healed. Its own look follows, without haste."""
        mark = self._looked_at.get(vm) or self._marks.get(vm) or self._found_whole.pop(vm, None)
        if mark is None:
            return
        self._note(vm, mark, steps)
        if vm in self._looked_at:
            self._done_meanwhile[vm] = self._done_meanwhile.get(vm, frozenset()).union(steps)
        if vm in self._marks:
            self._set(vm, replace(mark, put_back=True))

    def forget(self, vm: VmId) -> None:
        """The VM is no more."""
        self.clear(vm)
        self._past.pop(vm, None)
        self._waiting.discard(vm)
        if timer := self._timers.pop(vm, None):
            timer.cancel()

    async def look(self, vm: VmId, cause: Cause) -> None:
        """Look now, and again later when it fails."""
        mark = self._looked_at[vm] = _Mark(cause, self._loop.time())
        async with self._first_looks:
            await self._run(vm, mark)

    async def close(self) -> None:
        """Begin nothing any more, and let what has begun end."""
        for vm in (*self._timers, *self._waiting):
            self.forget(vm)
        while tasks := tuple(self._tasks.values()):
            self._marks.clear()
            await asyncio.gather(*tasks)

    def _set(self, vm: VmId, mark: _Mark) -> None:
        self._marks[vm] = mark
        # Whatever there was before may have been taken just now, by another thread.
        self._loop.call_soon_threadsafe(self._schedule, vm)

    def _schedule(self, vm: VmId) -> None:
        mark = self._marks.get(vm)
        if vm in self._timers or vm in self._waiting or vm in self._tasks or mark is None:
            return
        now = self._loop.time()
        past = self._past.get(vm)
        burst = 0.0 if mark.cause is Cause.FILTER else _BURST_S
        pause = max(burst, past.ended + past.pause_s - now) if past else burst
        self._timers[vm] = self._loop.call_later(pause, self._queue, vm)

    def _queue(self, vm: VmId) -> None:
        del self._timers[vm]
        self._waiting.add(vm)
        self._start_next()

    def _start_next(self) -> None:
        """Those first that nobody has put back yet; of those that only have to be made sure of one at a time."""
        while len(self._turns) < _AT_A_TIME:
            due = {vm: mark for vm in self._waiting if (mark := self._marks.get(vm))}
            self._waiting.intersection_update(due)
            if not due:
                return
            vm = min(due, key=lambda one: due[one].urgency)
            if due[vm].put_back and self._turns:
                return
            self._waiting.remove(vm)
            if (mark := self._marks.pop(vm, None)) is None:
                continue
            if mark.put_back:  # whatever is broken now was broken after that
                mark = replace(mark, since=self._loop.time())
            self._looked_at[vm] = mark
            self._turns.add(vm)
            slow = self._loop.call_later(_SLOW_S, self._end_turn, vm)
            task = self._tasks[vm] = self._loop.create_task(self._run(vm, mark))
            task.add_done_callback(partial(self._done, vm, slow))

    def _end_turn(self, vm: VmId) -> None:
        self._turns.discard(vm)
        self._start_next()

    def _done(self, vm: VmId, slow: asyncio.TimerHandle, _: asyncio.Task[None]) -> None:
        slow.cancel()
        del self._tasks[vm]
        self._schedule(vm)
        self._end_turn(vm)

    async def _run(self, vm: VmId, mark: _Mark) -> None:
        try:
            steps = await self._heal(vm)
        except (OnedockError, OSError) as error:
            self._failed(vm, str(error))
        except Exception as error:  # a bug with one VM must not keep it, or others, from being healed
            log.exception("healing failed", vm=vm)
            self._failed(vm, repr(error))
        else:
            meanwhile = self._done_meanwhile.get(vm, frozenset())
            self._succeeded(vm, mark, tuple(one for one in steps if one not in meanwhile))
        finally:
            self._looked_at.pop(vm, None)
            self._done_meanwhile.pop(vm, None)

    def _failed(self, vm: VmId, error: str) -> None:
        past = self._past.get(vm)
        pause = _longer(past.pause_s if past and past.error else 0.0)
        if past is None or past.error != error:
            log.warning("network cannot be put back", vm=vm, error=error, next_look_s=pause)
        self._past[vm] = _Past(self._loop.time(), frozenset(), error, pause)
        self.mark(vm, Cause.RETRY, shared=True)  # who has failed waits for those who have not

    def _succeeded(self, vm: VmId, mark: _Mark, steps: tuple[str, ...]) -> None:
        past = self._past.get(vm)
        if steps:
            self._note(vm, mark, steps)
            return
        self._found_whole[vm] = mark
        if past and (past.error or self._loop.time() - past.ended >= _AT_ONCE_S):
            del self._past[vm]

    def _note(self, vm: VmId, mark: _Mark, steps: tuple[str, ...]) -> None:
        past, now = self._past.get(vm), self._loop.time()
        if mark.cause is Cause.ADVERTISED:
            log.info("network follows a router", vm=vm, what=steps[:_STEPS_LOGGED], steps=len(steps))
        elif mark.cause is Cause.START and all(step.startswith(_LOAD_RULES) for step in steps):
            log.info("rules of an earlier agent loaded anew", vm=vm)
        else:
            healed = self.record.add(vm, mark.cause, steps, now - mark.since)
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
