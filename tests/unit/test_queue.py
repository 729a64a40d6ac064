"""The keyed queue, in virtual time."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedock.controller.app import BACKOFF_FIRST_S, BACKOFF_MAX_S, backoff
from onedock.controller.queue import KeyedQueue

pytestmark = pytest.mark.looptime


def double(failures: int) -> float:
    return float(2**failures)


def queue(delays: Callable[[int], float] = double) -> KeyedQueue[str]:
    return KeyedQueue(delays)


def now() -> float:
    return asyncio.get_running_loop().time()


async def idle(waiting: KeyedQueue[str], seconds: float = 0.5) -> bool:
    """Whether nothing comes out for a while."""
    try:
        async with asyncio.timeout(seconds):
            await waiting.get()
    except TimeoutError:
        return True
    return False


async def test_a_key_added_often_comes_out_once() -> None:
    due = queue()
    for _ in range(5):
        due.add("a")
    assert len(due) == 1
    assert await due.get() == "a"
    assert await idle(due)


async def test_the_soonest_time_wins() -> None:
    due = queue()
    due.add("a", after=10)
    due.add("a", after=3)
    due.add("a", after=7)
    start = now()
    assert await due.get() == "a"
    assert now() - start == pytest.approx(3)
    due.done("a")
    assert await idle(due, 60)


async def test_a_sooner_time_wakes_whoever_waits() -> None:
    due = queue()
    due.add("a", after=100)
    start = now()
    asyncio.get_running_loop().call_later(2, due.add, "a")
    assert await due.get() == "a"
    assert now() - start == pytest.approx(2)


async def test_a_key_has_one_worker_at_a_time() -> None:
    due = queue()
    due.add("a")
    assert await due.get() == "a"
    due.add("a")
    assert await idle(due)
    waiting = asyncio.create_task(due.get())
    await asyncio.sleep(1)
    due.done("a")
    assert await waiting == "a"


async def test_a_busy_key_does_not_hold_up_others() -> None:
    due = queue()
    due.add("a")
    assert await due.get() == "a"
    due.add("a")
    due.add("b")
    assert await due.get() == "b"


async def test_keys_come_in_the_order_in_which_they_became_due() -> None:
    due = queue()
    for key in ("c", "a", "b"):
        due.add(key)
    due.add("c")
    order = []
    for _ in range(6):
        key = await due.get()
        order.append(key)
        due.done(key)
        due.add(key)  # a key that is always due again starves nobody
    assert order == ["c", "a", "b", "c", "a", "b"]


async def test_failures_in_a_row_wait_longer() -> None:
    due = queue()
    due.add("a")
    await due.get()
    for wait in (2, 4, 8, 16):
        start = now()
        assert due.done("a", failed=True) == wait
        assert await due.get() == "a"
        assert now() - start == pytest.approx(wait)


async def test_backoff_starts_anew_after_a_success() -> None:
    due = queue()
    due.add("a")
    await due.get()
    assert due.done("a", failed=True) == 2
    await due.get()
    assert due.done("a", failed=True) == 4
    await due.get()
    assert due.done("a") == 0
    due.add("a")
    await due.get()
    assert due.done("a", failed=True) == 2


async def test_news_do_not_wait_for_the_backoff() -> None:
    due = queue()
    due.add("a")
    await due.get()
    due.done("a", failed=True)
    due.add("a")
    start = now()
    assert await due.get() == "a"
    assert now() == start


async def test_news_during_a_failing_pass_are_not_lost() -> None:
    due = queue()
    due.add("a")
    await due.get()
    due.add("a")
    due.done("a", failed=True)
    start = now()
    assert await due.get() == "a"
    assert now() == start


async def test_a_worker_that_is_cancelled_takes_nothing_with_it() -> None:
    due = queue()
    waiting = asyncio.create_task(due.get())
    await asyncio.sleep(1)
    waiting.cancel()
    due.add("a")
    assert await due.get() == "a"


@given(
    keys=st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 5), st.booleans()), min_size=1, max_size=30),
    workers=st.integers(1, 4),
)
def test_many_workers_serve_every_key_and_never_one_key_twice(
    keys: list[tuple[str, float, bool]], workers: int
) -> None:
    async def play() -> None:
        due: KeyedQueue[str] = KeyedQueue(lambda failures: 0.001)
        served: set[str] = set()
        inside: set[str] = set()
        fails = {key for key, _, failing in keys if failing}

        async def work() -> None:
            while True:
                key = await due.get()
                assert key not in inside
                inside.add(key)
                await asyncio.sleep(0)
                inside.remove(key)
                served.add(key)
                due.done(key, failed=key in fails)
                fails.discard(key)

        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        for key, delay, _ in keys:
            due.add(key, after=delay / 1000)
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while len(due) or inside or fails:
                assert not any(task.done() for task in tasks)
                await asyncio.sleep(0.001)
        assert served == {key for key, _, _ in keys}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(play())


def test_the_controllers_backoff_grows_to_a_bound() -> None:
    for failures in (1, 2, 5, 10, 1000):
        delays = [backoff(failures) for _ in range(50)]
        assert min(delays) >= BACKOFF_FIRST_S
        assert max(delays) <= BACKOFF_FIRST_S + min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures, 20))
