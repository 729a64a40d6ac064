"""Waiting for a condition with a deadline; the only way in which tests wait."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(predicate: Callable[[], Awaitable[T | None]], *, within: float = 10.0, what: str = "") -> T: ...


@overload
async def eventually(predicate: Callable[[], T | None], *, within: float = 10.0, what: str = "") -> T: ...


async def eventually(predicate: Callable[[], Any], *, within: float = 10.0, what: str = "") -> Any:
    """Call ``predicate`` (plain or async) until its result is true, and return that.

    Raises AssertionError after ``within`` seconds, with the last result or the last AssertionError of the
    predicate, whose assertions count as "not yet".
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        failure: AssertionError | None = None
        result = None
        try:
            outcome = predicate()
            result = await outcome if inspect.isawaitable(outcome) else outcome
        except AssertionError as error:
            failure = error
        if result:
            return result
        if loop.time() > deadline:
            raise AssertionError(f"not within {within} s: {what or predicate}: {result!r}") from failure
        await asyncio.sleep(0.01)
