"""Routes of the VM's namespace."""

from typing import assert_never

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.kernel import Kernel

_RTNH_F_ONLINK = 4
_RTPROT_STATIC = 4
_FAMILY = {False: 2, True: 10}


def apply_to_routes(kernel: Kernel, step: steps.RouteStep) -> None:
    """Do one step in the VM's namespace. Raises NetlinkError."""
    match step:
        case steps.RemoveGateway(name, gateway, metric):
            _route(kernel, "del", name, gateway, metric, flags=0)
        case steps.AddGateway(name, gateway, metric, onlink):
            _route(kernel, "add", name, gateway, metric, flags=_RTNH_F_ONLINK if onlink else 0)
        case _:
            assert_never(step)


def _route(kernel: Kernel, command: str, name: str, gateway: str, metric: int, *, flags: int) -> None:
    kernel.inner.route(
        command,
        family=_FAMILY[":" in gateway],
        dst="default",
        gateway=gateway,
        oif=kernel.index(kernel.inner, name),
        priority=metric,
        proto=_RTPROT_STATIC,
        flags=flags,
    )
