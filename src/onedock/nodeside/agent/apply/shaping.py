"""Limits of NICs."""

from typing import assert_never

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.seen import TokenBucket


def apply_limit(kernel: Kernel, step: steps.ShapingStep) -> None:
    """Do one step on either side of a NIC. Raises NetlinkError."""
    link = kernel.index(kernel.inner if step.inside else kernel.host, step.name)
    qdiscs = kernel.qdiscs(inside=step.inside)
    match step:
        case steps.Shape():
            qdiscs.replace(link, TokenBucket(step.rate, step.burst, step.queue, step.peak, step.peak_burst))
        case steps.Unshape():
            qdiscs.remove(link)
        case _:
            assert_never(step)
