"""Counting of calls to other programs by how they ended: engines here, oned in the controller."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from onedock.reconcilers.errors import OnedockError, TransientError

OnCall = Callable[[str, float], None]
"""Told of each call: ``ok``, ``refused`` or ``failed`` (no answer, or not now), and the seconds it took."""


def uncounted(result: str, seconds: float) -> None:
    """For callers that keep no count."""


@contextmanager
def counted(on_call: OnCall) -> Iterator[None]:
    """Tell ``on_call`` how the body ended; its errors pass through."""
    started = time.monotonic()
    result = "ok"
    try:
        yield
    except TransientError:
        result = "failed"
        raise
    except OnedockError:
        result = "refused"
        raise
    finally:
        on_call(result, time.monotonic() - started)
