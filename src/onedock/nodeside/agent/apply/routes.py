"""Routes of the VM's namespace."""

from typing import assert_never

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.kernel import Kernel

_RTNH_F_ONLINK = 4
_RTPROT_KERNEL, _RTPROT_STATIC = 2, 4
_SCOPE_LINK = 253
_METRIC6 = 256
"""Of the kernel's own IPv6 routes to subnets."""
_FAMILY = {False: 2, True: 10}


def apply_to_routes(kernel: Kernel, step: steps.RouteStep) -> None:
    """Do one step in the VM's namespace. Raises NetlinkError."""
    match step:
        case steps.RemoveGateway(name, gateway, metric):
            _route(kernel, "del", name, "default", gateway, metric, onlink=False)
        case steps.AddGateway(name, gateway, metric, onlink):
            _route(kernel, "add", name, "default", gateway, metric, onlink=onlink)
        case steps.RemoveRoute(name, destination, gateway, metric):
            _route(kernel, "del", name, destination, gateway, metric, onlink=False)
        case steps.AddRoute(name, destination, gateway, metric, onlink):
            _route(kernel, "add", name, destination, gateway, metric, onlink=onlink)
        case steps.AddConnected():
            _connect(kernel, step)
        case _:
            assert_never(step)


def _route(
    kernel: Kernel, command: str, name: str, destination: str, gateway: str, metric: int, *, onlink: bool
) -> None:
    kernel.inner.route(
        command,
        family=_FAMILY[":" in gateway],
        dst=destination,
        gateway=gateway,
        oif=kernel.index(kernel.inner, name),
        priority=metric,
        proto=_RTPROT_STATIC,
        flags=_RTNH_F_ONLINK if onlink else 0,
    )


def _connect(kernel: Kernel, step: steps.AddConnected) -> None:
    """As the kernel does it: several NICs may be in one subnet."""
    version4 = {"scope": _SCOPE_LINK, "prefsrc": step.source} if step.source is not None else {"priority": _METRIC6}
    kernel.inner.route(
        "append",
        family=_FAMILY[step.source is None],
        dst=step.destination,
        oif=kernel.index(kernel.inner, step.name),
        proto=_RTPROT_KERNEL,
        **version4,
    )
