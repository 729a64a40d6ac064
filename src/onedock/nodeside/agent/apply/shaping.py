"""Limits of NICs."""

from typing import assert_never

from onedock.nodeside.agent import qdiscs, steps
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.seen import TokenBucket


def apply_limit(kernel: Kernel, step: steps.ShapingStep) -> None:
    """Do one step on either side of a NIC. Raises NetlinkError."""
    socket = kernel.inside if step.inside else kernel.outside
    link = kernel.index(step.name, inside=step.inside)
    match step:
        case steps.Shape():
            qdiscs.replace(socket, link, TokenBucket(step.rate, step.burst, step.queue, step.peak, step.peak_burst))
        case steps.Unshape():
            qdiscs.remove(socket, link)
        case _:
            assert_never(step)
