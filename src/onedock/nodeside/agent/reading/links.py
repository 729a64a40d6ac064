"""Links of the agent's namespace, each asked for by name or index: a node may have thousands."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from onedock.nodeside.agent.attributes import number, text
from onedock.nodeside.agent.rtnetlink.links import IFLA_GROUP, IFLA_IFALIAS, IFLA_LINK, IFLA_MASTER, IFLA_MTU, Link
from onedock.nodeside.agent.rtnetlink.socket import HEADER, Rtnetlink
from onedock.nodeside.agent.seen import BRIDGE_GROUP, HostLink

UPLINK_KINDS = ("vlan", "vxlan")
VLAN_FLAGS = {"reorder_hdr": 1, "gvrp": 2, "loose_binding": 4, "mvrp": 8, "bridge_binding": 16}
"""include/uapi/linux/if_vlan.h"""
_IFLA_VXLAN_LINK = 3
_IFLA_BR_VLAN_FILTERING, _IFLA_BR_VLAN_DEFAULT_PVID = 7, 39


def host_link(host: Rtnetlink, name: str) -> HostLink | None:
    """One link of the agent's namespace by name; its master is left out."""
    answer = host.link(name=name)
    return None if answer is None else as_host_link(answer)


def ports(host: Rtnetlink, bridge: HostLink, kind: str = "") -> list[HostLink]:
    """The ports of a bridge, or only those of one kind."""
    return [as_host_link(answer) for answer in host.links(master=bridge.index, kind=kind)]


class Links:
    """Links as they are asked for, each once, with their masters."""

    def __init__(self, host: Rtnetlink) -> None:
        self._host = host
        self._found: dict[int, HostLink] = {}
        self._masters: dict[int, int] = {}
        self._named: dict[str, HostLink | None] = {}

    def by_name(self, name: str) -> HostLink | None:
        """A link, if it exists."""
        if name not in self._named:
            self._named[name] = self._keep(self._host.link(name=name))
        return self._named[name]

    def by_index(self, index: int) -> HostLink | None:
        """A link, if it exists."""
        if index not in self._found:
            self._keep(self._host.link(index=index))
        return self._found.get(index)

    def amend(self, index: int, **details: Any) -> None:
        """Add to a link what was found out about it otherwise."""
        link = replace(self._found[index], **details)
        self._found[index] = self._named[link.name] = link

    def filters_vlans(self, bridge: str) -> bool:
        """Whether a bridge has VLAN filtering on."""
        link = self.by_name(bridge)
        answer = self._host.link(index=link.index) if link is not None else None
        if link is None or answer is None:
            return False
        on = answer.kind == "bridge" and bool(number(answer.data.get(_IFLA_BR_VLAN_FILTERING)))
        default = number(answer.data.get(_IFLA_BR_VLAN_DEFAULT_PVID)) if on else 1
        self.amend(link.index, filters_vlans=on, default_vlan=default)
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

    def _keep(self, answer: Link | None) -> HostLink | None:
        if answer is None:
            return None
        link = as_host_link(answer)
        self._found[link.index] = link
        self._named[link.name] = link
        if master := answer.number(IFLA_MASTER):
            self._masters[link.index] = master
        return link


def as_host_link(answer: Link) -> HostLink:
    """The kernel's answer about a link, without its master."""
    is_uplink = answer.kind in UPLINK_KINDS
    return HostLink(
        name=answer.name,
        index=answer.index,
        kind=answer.kind,
        group=answer.number(IFLA_GROUP),
        alias=text(answer.attributes.get(IFLA_IFALIAS)),
        mtu=answer.number(IFLA_MTU),
        up=answer.up,
        peer=number(answer.data.get(_IFLA_VXLAN_LINK)) if answer.kind == "vxlan" else answer.number(IFLA_LINK),
        attributes=frozenset(_attributes(answer)) if is_uplink else frozenset(),
        limited=answer.limited,
    )


def _attributes(answer: Link) -> Iterator[tuple[str, str]]:
    """All that an uplink can be told (IP_LINK_CONF), in pyroute2's words, which say it too."""
    prefix = f"IFLA_{answer.kind.upper()}_"
    message = ifinfmsg(HEADER.pack(HEADER.size + len(answer.raw), 0, 0, 0, 0) + answer.raw)
    message.decode()
    for name, value in (message.get(("linkinfo", "data")) or {}).get("attrs", ()):
        if name == "IFLA_VLAN_FLAGS":
            for flag, bit in VLAN_FLAGS.items():
                yield flag, str(int(bool(value["flags"] & bit)))
        elif name.startswith(prefix) and isinstance(value, int | str):
            yield name.removeprefix(prefix).lower(), str(int(value) if isinstance(value, bool) else value)
