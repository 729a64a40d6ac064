"""An event loop in which waiting takes no time: its clock jumps to the next timer."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            self.now += timeout or 0.0
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """Only for what waits for timers: nothing else, such as a thread, gets time to answer."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the loop was made, all of them waited."""
        return self._jumping.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it to its end in such a loop."""
    loop = JumpingLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
