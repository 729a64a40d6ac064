"""What only some networks need to know of the node: tunnel ends and the VLANs of ports."""

import ipaddress
from collections.abc import Iterator
from typing import Any

from pyroute2 import IPRoute

from onedock.nodeside.agent.namespaces import at_home
from onedock.nodeside.agent.reading.links import dump
from onedock.nodeside.agent.seen import HostLink
from onedock.nodeside.agent.steps.uplink import PortVlan

UNKNOWN = "00:00:00:00:00:00"
"""The entry of a VXLAN link for everything that has no known place."""

_NUD_PERMANENT = 0x80
_NTF_EXT_LEARNED = 0x10
_BRIDGE_VLAN_INFO_PVID = 0x2
_SCOPE_LINK = 253


def own_addresses(host: IPRoute) -> tuple[tuple[int, str], ...]:
    """(index of the link, address) of the node, in the kernel's order."""
    return tuple(
        (one["index"], str(ipaddress.ip_address(one.get("local") or one.get("address"))))
        for one in dump(host.get_addr)
        if one["scope"] != _SCOPE_LINK
    )


def remotes(tunnel: HostLink) -> frozenset[str]:
    """Where a VXLAN link sends what has no known place; what a routing daemon told the kernel is its own matter."""
    # Only for a strict socket the kernel selects by link.
    with at_home(), IPRoute(strict_check=True) as host:
        entries = dump(lambda: host.fdb("dump", dump_filter=lambda _: True, ifindex=tunnel.index))
    return frozenset(
        str(ipaddress.ip_address(entry.get("dst")))
        for entry in entries
        if entry["ifindex"] == tunnel.index
        and entry.get("lladdr") == UNKNOWN
        and entry.get("dst")
        and entry["state"] & _NUD_PERMANENT
        and not entry["flags"] & _NTF_EXT_LEARNED
    )


def vlans(host: IPRoute, port: HostLink) -> frozenset[PortVlan]:
    """What passes a port of a bridge."""
    answers = dump(lambda: host.vlandb("dump", dump_filter=lambda _: True, ifindex=port.index))
    return frozenset(vlan for answer in answers if answer["ifindex"] == port.index for vlan in _entries(answer))


def _entries(answer: Any) -> Iterator[PortVlan]:
    for entry in answer.get_attrs("BRIDGE_VLANDB_ENTRY"):
        info = entry.get_attr("BRIDGE_VLANDB_ENTRY_INFO")
        last = entry.get_attr("BRIDGE_VLANDB_ENTRY_RANGE") or info["vid"]
        for vid in range(info["vid"], last + 1):
            yield vid, bool(info["flags"] & _BRIDGE_VLAN_INFO_PVID)
