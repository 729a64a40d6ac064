"""A lease on a NIC in the kernel: its address with its end, its routes, its MTU. Synchronous, for threads.

What belongs to a lease is told by its form: an IPv4 address that ends, and routes of the protocol ``dhcp``. The plan
of the NIC itself (``plan``) leaves both alone. Only what differs is written, because every change is notified.
"""

import time
from dataclasses import dataclass
from typing import Any

import structlog
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.dhcp.lease import Lease
from onedock.nodeside.agent.reading import dump
from onedock.reconcilers.model import Nic, VmId, namespace_name

log = structlog.get_logger()

_INET = 2
_ANY = "0.0.0.0"  # noqa: S104 - the default route's destination
_IFA_F_PERMANENT = 0x80
_RTPROT_DHCP = 16
_RTNH_F_ONLINK = 4
_SCOPE_LINK = 253
_TABLE_MAIN = 254
_TOLERANCE_S = 5
"""By how much the kernel's end of an address may differ from the lease's before it is set again."""


@dataclass(frozen=True, slots=True)
class Link:
    """Which link it is: a client of one link knows nothing of another that has the same name."""

    namespace: int
    """Inode."""
    index: int
    mac: str


@dataclass(frozen=True, slots=True, order=True)
class _Route:
    destination: str
    gateway: str
    metric: int


def settle(vm: VmId, nic: Nic, lease: Lease | None) -> Link | None:
    """Give a NIC what ``lease`` says, and nothing that an earlier lease said; returns its link, None: there is none.

    Raises NetlinkError or OSError when the namespace or the link goes away meanwhile.
    """
    name = namespace_name(vm)
    if not namespaces.exists(name):
        return None
    namespaces.enter_home()
    namespaces.enter(name)
    with IPRoute() as inner:
        links = [link for link in dump(inner.get_links) if link.get("ifname") == nic.name]
        if not links:
            return None
        link = links[0]
        remaining = lease.remaining(time.time()) if lease is not None else 0
        _settle_address(inner, link["index"], lease.address if lease is not None and remaining else "", remaining)
        _settle_routes(inner, link["index"], _wanted_routes(nic, lease if remaining else None))
        if lease is not None and lease.mtu is not None and nic.mtu is None and lease.mtu < link.get("mtu"):
            inner.link("set", index=link["index"], mtu=lease.mtu)
        return Link(namespaces.path(name).stat().st_ino, link["index"], link.get("address"))


def _settle_address(inner: IPRoute, index: int, wanted: str, remaining: int) -> None:
    up_to_date = False
    for answer in dump(lambda: inner.get_addr(family=_INET, index=index)):
        flags = answer.get("flags") or answer["flags"]
        if flags & _IFA_F_PERMANENT:
            continue
        address = f"{answer.get('local')}/{answer['prefixlen']}"
        if address != wanted:
            inner.addr("del", index=index, address=answer.get("local"), prefixlen=answer["prefixlen"])
        else:
            up_to_date = abs(answer.get("cacheinfo")["ifa_valid"] - remaining) <= _TOLERANCE_S
    if wanted and not up_to_date:
        ip, _, prefix = wanted.partition("/")
        ends = {"valid_lft": remaining, "preferred_lft": remaining}
        inner.addr("replace", index=index, address=ip, prefixlen=int(prefix), **ends)


def _wanted_routes(nic: Nic, lease: Lease | None) -> set[_Route]:
    metric = nic.metric if nic.metric is not None else 100 + nic.index
    return {_Route(destination, gateway, metric) for destination, gateway in lease.routes} if lease else set()


def _settle_routes(inner: IPRoute, index: int, wanted: set[_Route]) -> None:
    present = {
        _Route(
            f"{answer.get('dst') or _ANY}/{answer['dst_len']}",
            answer.get("gateway") or "",
            answer.get("priority") or 0,
        )
        for answer in dump(lambda: inner.get_routes(family=_INET, table=_TABLE_MAIN, oif=index))
        if answer["proto"] == _RTPROT_DHCP
    }
    for route in sorted(present - wanted):
        inner.route("del", **_message(route, index))
    # Routes on the link itself first: gateways may be reached through them only.
    for route in sorted(wanted - present, key=lambda one: (bool(one.gateway), one)):
        try:
            inner.route("replace", **_message(route, index))
        except NetlinkError as error:
            # A server's nonsense (a gateway that is the NIC itself) must not cost the address.
            log.warning("leased route refused", route=route.destination, gateway=route.gateway, error=str(error))


def _message(route: _Route, index: int) -> dict[str, Any]:
    via: dict[str, Any] = (
        {"gateway": route.gateway, "flags": _RTNH_F_ONLINK} if route.gateway else {"scope": _SCOPE_LINK}
    )
    return {
        "family": _INET,
        "dst": route.destination,
        "oif": index,
        "priority": route.metric,
        "proto": _RTPROT_DHCP,
        **via,
    }
