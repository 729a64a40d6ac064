"""Routes of the VM's namespace."""

from typing import assert_never

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.rtnetlink import messages
from onedock.nodeside.agent.rtnetlink.messages import Route
from onedock.nodeside.agent.rtnetlink.socket import APPEND, CREATE, EXCLUSIVE
from onedock.nodeside.agent.seen import SOURCE_PRIORITY

_RTNH_F_ONLINK = 4
_RTPROT_KERNEL, _RTPROT_STATIC, _RTPROT_RA = 2, 4, 9
_SCOPE_LINK = 253
_METRIC6 = 256
"""Of the kernel's own IPv6 routes to subnets."""
_ANYWHERE = {False: "0.0.0.0/0", True: "::/0"}


def apply_to_routes(kernel: Kernel, step: steps.RouteStep) -> None:
    """Do one step in the VM's namespace. Raises NetlinkError."""
    match step:
        case steps.RemoveGateway(name, gateway, metric):
            _remove(kernel, _static(kernel, name, _ANYWHERE[":" in gateway], gateway, metric))
        case steps.AddGateway(name, gateway, metric, onlink):
            _add(kernel, _static(kernel, name, _ANYWHERE[":" in gateway], gateway, metric, onlink=onlink))
        case steps.RemoveRouter(name, gateway):
            _remove(kernel, Route(_ANYWHERE[True], kernel.index(name, inside=True), _RTPROT_RA, gateway=gateway))
        case steps.RemoveRoute(name, destination, gateway, metric):
            _remove(kernel, _static(kernel, name, destination, gateway, metric))
        case steps.AddRoute(name, destination, gateway, metric, onlink):
            _add(kernel, _static(kernel, name, destination, gateway, metric, onlink=onlink))
        case steps.AddConnected(name, destination, source):
            _connect(kernel, kernel.index(name, inside=True), destination, source)
        case steps.RemoveSourceRoute(name, table, destination, gateway):
            _remove(kernel, _for_sources(kernel, name, table, destination, gateway))
        case steps.AddSourceRoute(name, table, destination, gateway, onlink):
            _add(kernel, _for_sources(kernel, name, table, destination, gateway, onlink=onlink))
        case steps.RemoveSourceRule(source, table):
            kernel.inside.do(messages.DELETE_RULE, 0, messages.source_rule(source, table, SOURCE_PRIORITY))
        case steps.AddSourceRule(source, table):
            rule = messages.source_rule(source, table, SOURCE_PRIORITY)
            kernel.inside.do(messages.NEW_RULE, CREATE | EXCLUSIVE, rule)
        case _:
            assert_never(step)


def _add(kernel: Kernel, route: Route) -> None:
    kernel.inside.do(messages.NEW_ROUTE, CREATE | EXCLUSIVE, messages.route(route))


def _remove(kernel: Kernel, route: Route) -> None:
    kernel.inside.do(messages.DELETE_ROUTE, 0, messages.route(route, removal=True))


def _static(kernel: Kernel, name: str, destination: str, gateway: str, metric: int, *, onlink: bool = False) -> Route:
    return Route(
        destination,
        kernel.index(name, inside=True),
        _RTPROT_STATIC,
        gateway=gateway,
        metric=metric,
        flags=_RTNH_F_ONLINK if onlink else 0,
    )


def _connect(kernel: Kernel, link: int, destination: str, source: str | None) -> None:
    """As the kernel does it: several NICs may be in one subnet."""
    if source is not None:
        route = Route(destination, link, _RTPROT_KERNEL, scope=_SCOPE_LINK, source=source)
    else:
        route = Route(destination, link, _RTPROT_KERNEL, metric=_METRIC6)
    kernel.inside.do(messages.NEW_ROUTE, CREATE | APPEND, messages.route(route))


def _for_sources(
    kernel: Kernel, name: str, table: int, destination: str, gateway: str, *, onlink: bool = False
) -> Route:
    return Route(
        destination,
        kernel.index(name, inside=True),
        _RTPROT_STATIC,
        # A route to neighbours that is of the universe is none that a gateway can be reached by.
        scope=0 if gateway else _SCOPE_LINK,
        gateway=gateway,
        table=table,
        flags=_RTNH_F_ONLINK if onlink else 0,
    )
