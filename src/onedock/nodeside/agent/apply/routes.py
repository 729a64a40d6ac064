"""Routes of the VM's namespace."""

from ipaddress import ip_address
from typing import Any, assert_never

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.seen import SOURCE_PRIORITY

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
        case steps.RemoveSourceRoute(name, table, destination, gateway):
            _source_route(kernel, "del", name, table, destination, gateway, onlink=False)
        case steps.AddSourceRoute(name, table, destination, gateway, onlink):
            _source_route(kernel, "add", name, table, destination, gateway, onlink=onlink)
        case steps.RemoveSourceRule(source, table):
            _source_rule(kernel, "del", source, table)
        case steps.AddSourceRule(source, table):
            _source_rule(kernel, "add", source, table)
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
        oif=kernel.index(name, inside=True),
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
        oif=kernel.index(step.name, inside=True),
        proto=_RTPROT_KERNEL,
        **version4,
    )


def _source_route(
    kernel: Kernel, command: str, name: str, table: int, destination: str, gateway: str, *, onlink: bool
) -> None:
    # Without scope, a route without gateway to neighbours would be one of the universe, which no gateway can be behind.
    way: dict[str, Any] = {"gateway": gateway} if gateway else {"scope": _SCOPE_LINK}
    kernel.inner.route(
        command,
        family=_FAMILY[":" in destination],
        dst=destination,
        oif=kernel.index(name, inside=True),
        table=table,
        proto=_RTPROT_STATIC,
        flags=_RTNH_F_ONLINK if onlink else 0,
        **way,
    )


def _source_rule(kernel: Kernel, command: str, source: str, table: int) -> None:
    kernel.inner.rule(
        command,
        family=_FAMILY[":" in source],
        src=source,
        src_len=ip_address(source).max_prefixlen,
        table=table,
        priority=SOURCE_PRIORITY,
    )
