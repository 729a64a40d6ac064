"""The kernel's netlink answers as the values of ``seen``. Reads only, in the threads of ``netlink``."""

import errno
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from onedock.nodeside.agent.seen import HostLink, InnerLink, Seen
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Network

LOOPBACK = 1
"""Index of ``lo``, the same in every namespace."""

_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_IFA_F_PERMANENT = 0x80
_SCOPE_LINK = 253
_TABLE_MAIN = 254
_STATIC = frozenset({3, 4})
"""Route protocols ``boot`` and ``static``: not learnt by router advertisements or DHCP."""
_DUMP_ATTEMPTS = 10


def read(host: IPRoute, inner: IPRoute | None, known: Network | None) -> Seen:
    """Read the VM's namespace, and of the agent's own the links that ``known`` names or that are peers."""
    links = _Links(host)
    if known is not None:
        for nic in known.nics:
            links.by_name(nic.bridge)
            links.by_name(nic.host_name)
            if nic.phydev is not None:
                links.by_name(nic.phydev)
    if inner is None:
        return Seen(host=links.values())
    answers = dump(inner.get_links)
    addresses = dump(inner.get_addr)
    routes = dump(lambda: inner.get_routes(table=_TABLE_MAIN))
    inside = tuple(_inner_link(answer, addresses, routes) for answer in answers if answer["index"] != LOOPBACK)
    for link in inside:
        if link.kind == "veth":
            links.by_index(link.peer)
    return Seen(
        namespace=True,
        loopback_up=any(answer["index"] == LOOPBACK and answer["flags"] & _IFF_UP for answer in answers),
        inner=inside,
        host=links.values(),
    )


def host_link(host: IPRoute, name: str) -> HostLink | None:
    """One link of the agent's namespace by name; its master is left out."""
    answer = _get(host, ifname=name)
    return None if answer is None else _host_link(answer)


def ports(host: IPRoute, bridge: HostLink) -> frozenset[str]:
    """Names of the ports of a bridge."""
    return frozenset(answer.get("ifname") for answer in dump(lambda: host.get_links(master=bridge.index)))


def dump(call: Callable[[], Iterable[Any]]) -> list[Any]:
    """All answers to a dump, asked again when the kernel says that its tables changed in between."""
    for _ in range(_DUMP_ATTEMPTS):
        try:
            return list(call())
        except NetlinkDumpInterrupted:
            continue
    raise TransientError("the node's links change faster than they can be read; try again")


class _Links:
    """Links of the agent's namespace, each asked for once, with their masters."""

    def __init__(self, host: IPRoute) -> None:
        self._host = host
        self._found: dict[int, HostLink] = {}
        self._masters: dict[int, int] = {}
        self._asked: set[str] = set()

    def by_name(self, name: str) -> None:
        if name not in self._asked:
            self._keep(_get(self._host, ifname=name))
            self._asked.add(name)

    def by_index(self, index: int) -> None:
        if index not in self._found:
            self._keep(_get(self._host, index=index))

    def values(self) -> dict[str, HostLink]:
        for master in list(self._masters.values()):
            self.by_index(master)
        named = {}
        for index, link in self._found.items():
            master_link = self._found.get(self._masters.get(index, 0))
            named[link.name] = replace(link, master=master_link.name) if master_link else link
        return named

    def _keep(self, answer: Any) -> None:
        if answer is not None:
            link = _host_link(answer)
            self._found[link.index] = link
            self._asked.add(link.name)
            if master := answer.get("master"):
                self._masters[link.index] = master


def _get(host: IPRoute, **which: Any) -> Any:
    try:
        answers = host.link("get", **which)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    return answers[0] if answers else None


def _host_link(answer: Any) -> HostLink:
    return HostLink(
        name=answer.get("ifname"),
        index=answer["index"],
        kind=answer.get(("linkinfo", "kind")) or "",
        group=answer.get("group") or 0,
        alias=answer.get("ifalias") or "",
        mtu=answer.get("mtu") or 0,
        up=bool(answer["flags"] & _IFF_UP),
        peer=answer.get("link") or 0,
    )


def _inner_link(answer: Any, addresses: list[Any], routes: list[Any]) -> InnerLink:
    index = answer["index"]
    return InnerLink(
        name=answer.get("ifname"),
        index=index,
        kind=answer.get(("linkinfo", "kind")) or "",
        mac=answer.get("address") or "",
        mtu=answer.get("mtu") or 0,
        up=bool(answer["flags"] & _IFF_UP),
        carrier=bool(answer["flags"] & _IFF_LOWER_UP),
        peer=answer.get("link") or 0,
        addresses=tuple(_address(one) for one in addresses if one["index"] == index and _is_static(one)),
        gateways=tuple(
            (str(ipaddress.ip_address(one.get("gateway"))), one.get("priority") or 0)
            for one in routes
            if one.get("oif") == index and one["dst_len"] == 0 and one.get("gateway") and one["proto"] in _STATIC
        ),
    )


def _is_static(address: Any) -> bool:
    """Not link-local, and not learnt from a router, which may come and go as it likes."""
    return address["scope"] != _SCOPE_LINK and bool((address.get("flags") or 0) & _IFA_F_PERMANENT)


def _address(answer: Any) -> str:
    # IFA_LOCAL is the address, IFA_ADDRESS the far end of a point-to-point link; IPv6 has only the latter.
    return str(ipaddress.ip_interface(f"{answer.get('local') or answer.get('address')}/{answer['prefixlen']}"))
