"""Links of the agent's namespace, each asked for by name or index: a node may have thousands."""

import errno
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from onedock.nodeside.agent.seen import BRIDGE_GROUP, HostLink
from onedock.reconcilers.errors import TransientError

IFF_UP = 0x1
SKIP_STATISTICS = 8
"""RTEXT_FILTER_SKIP_STATS: two thirds of what the kernel tells of a link, and of the time to read it."""
UPLINK_KINDS = ("vlan", "vxlan")
_DUMP_ATTEMPTS = 10
VLAN_FLAGS = {"reorder_hdr": 1, "gvrp": 2, "loose_binding": 4, "mvrp": 8, "bridge_binding": 16}
"""include/uapi/linux/if_vlan.h"""


def dump(call: Callable[[], Iterable[Any]]) -> list[Any]:
    """All answers to a dump, asked again when the kernel says that its tables changed in between."""
    for _ in range(_DUMP_ATTEMPTS):
        try:
            return list(call())
        except NetlinkDumpInterrupted:
            continue
    raise TransientError("the node's links change faster than they can be read; try again")


def host_link(host: IPRoute, name: str) -> HostLink | None:
    """One link of the agent's namespace by name; its master is left out."""
    answer = _get(host, ifname=name)
    return None if answer is None else as_host_link(answer)


def ports(host: IPRoute, bridge: HostLink, kind: str | None = None) -> list[HostLink]:
    """The ports of a bridge, or only those of one kind; the kernel selects them."""
    which: dict[str, Any] = {"master": bridge.index}
    if kind is not None:
        which["IFLA_LINKINFO"] = {"attrs": [["IFLA_INFO_KIND", kind]]}
    # Without a filter of ours, pyroute2 would ask for all links and select by itself.
    return [as_host_link(answer) for answer in dump(lambda: host.link("dump", dump_filter=lambda _: True, **which))]


def limited(answer: Any) -> bool:
    """Whether something that is not there by default delays what leaves a link."""
    return answer.get("qdisc") not in {None, "noqueue", "noop"}


class Links:
    """Links as they are asked for, each once, with their masters."""

    def __init__(self, host: IPRoute) -> None:
        self._host = host
        self._found: dict[int, HostLink] = {}
        self._masters: dict[int, int] = {}
        self._named: dict[str, HostLink | None] = {}

    def by_name(self, name: str) -> HostLink | None:
        """A link, if it exists."""
        if name not in self._named:
            self._named[name] = self._keep(_get(self._host, ifname=name))
        return self._named[name]

    def by_index(self, index: int) -> HostLink | None:
        """A link, if it exists."""
        if index not in self._found:
            self._keep(_get(self._host, index=index))
        return self._found.get(index)

    def amend(self, index: int, **details: Any) -> None:
        """Add to a link what was found out about it otherwise."""
        link = replace(self._found[index], **details)
        self._found[index] = self._named[link.name] = link

    def filters_vlans(self, bridge: str) -> bool:
        """Whether a bridge has VLAN filtering on."""
        link = self.by_name(bridge)
        if link is None:
            return False
        answer = _get(self._host, index=link.index)
        data = answer and answer.get(("linkinfo", "data"))
        on = bool(data and data.get("br_vlan_filtering"))
        self.amend(link.index, filters_vlans=on, default_vlan=data.get("br_vlan_default_pvid") if on else 1)
        return on

    def uplinks(self, bridge: str) -> frozenset[str]:
        """Uplinks of ours that are ports of a bridge; they are looked at as well."""
        link = self._named.get(bridge)
        if link is None:
            return frozenset()
        found = (port for kind in UPLINK_KINDS for port in ports(self._host, link, kind))
        names = frozenset(port.name for port in found if port.group == BRIDGE_GROUP)
        for name in names:
            self.by_name(name)
        return names

    def values(self) -> dict[str, HostLink]:
        """All that was found, by name."""
        for master in list(self._masters.values()):
            self.by_index(master)
        named = {}
        for index, link in self._found.items():
            master_link = self._found.get(self._masters.get(index, 0))
            named[link.name] = replace(link, master=master_link.name) if master_link else link
        return named

    def _keep(self, answer: Any) -> HostLink | None:
        if answer is None:
            return None
        link = as_host_link(answer)
        self._found[link.index] = link
        self._named[link.name] = link
        if master := answer.get("master"):
            self._masters[link.index] = master
        return link


def _get(host: IPRoute, **which: Any) -> Any:
    try:
        answers = host.link("get", ext_mask=SKIP_STATISTICS, **which)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    return answers[0] if answers else None


def as_host_link(answer: Any) -> HostLink:
    """The kernel's answer about a link, without its master."""
    kind = answer.get(("linkinfo", "kind")) or ""
    return HostLink(
        name=answer.get("ifname"),
        index=answer["index"],
        kind=kind,
        group=answer.get("group") or 0,
        alias=answer.get("ifalias") or "",
        mtu=answer.get("mtu") or 0,
        up=bool(answer["flags"] & IFF_UP),
        peer=_lower(answer, kind),
        attributes=frozenset(_attributes(answer, kind)) if kind in UPLINK_KINDS else frozenset(),
        limited=limited(answer),
    )


def _lower(answer: Any, kind: str) -> int:
    found = answer.get(("linkinfo", "data", "vxlan_link")) if kind == "vxlan" else answer.get("link")
    return found or 0


def _attributes(answer: Any, kind: str) -> Iterable[tuple[str, str]]:
    prefix = f"IFLA_{kind.upper()}_"
    for name, value in (answer.get(("linkinfo", "data")) or {}).get("attrs", ()):
        if name == "IFLA_VLAN_FLAGS":
            for flag, bit in VLAN_FLAGS.items():
                yield flag, str(int(bool(value["flags"] & bit)))
        elif name.startswith(prefix) and isinstance(value, int | str):
            yield name.removeprefix(prefix).lower(), str(int(value) if isinstance(value, bool) else value)
