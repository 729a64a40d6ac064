"""What only some networks need to know of the node: tunnel ends and the VLANs of ports."""

import errno
import ipaddress
import struct
from collections.abc import Iterator

from onedock.nodeside.agent.attributes import attributes, each_attribute, number
from onedock.nodeside.agent.namespaces import at_home
from onedock.nodeside.agent.rtnetlink.socket import GET_ADDRESS, GET_NEIGHBOUR, GET_VLAN, Rtnetlink
from onedock.nodeside.agent.rtnetlink.structs import ADDRESS, NEIGHBOUR
from onedock.nodeside.agent.seen import HostLink
from onedock.nodeside.agent.steps.uplink import PortVlan

UNKNOWN = "00:00:00:00:00:00"
"""The entry of a VXLAN link for everything that has no known place."""

_AF_BRIDGE = 7
_NUD_PERMANENT = 0x80
_NTF_EXT_LEARNED = 0x10
_SCOPE_LINK = 253
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NDA_DST, _NDA_LLADDR = 1, 2
_VLANDB_ENTRY, _ENTRY_INFO, _ENTRY_RANGE = 1, 1, 2
_BRIDGE_VLAN_INFO_PVID = 0x2

_VLAN = struct.Struct("=BxxxI")
"""struct br_vlan_msg: family, index."""
_VLAN_INFO = struct.Struct("=HH")
"""struct bridge_vlan_info: flags, VLAN id."""


def own_addresses(host: Rtnetlink) -> tuple[tuple[int, str], ...]:
    """(index of the link, address) of the node, in the kernel's order."""
    return tuple(
        one
        for answer in host.dump(GET_ADDRESS, ADDRESS.pack(0, 0, 0, 0, 0))
        if (one := _own_address(answer)) is not None
    )


def _own_address(answer: bytes) -> tuple[int, str] | None:
    _, _, _, scope, index = ADDRESS.unpack_from(answer)
    found = attributes(answer, ADDRESS.size)
    address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    return (index, str(ipaddress.ip_address(address))) if address and scope != _SCOPE_LINK else None


def remotes(tunnel: HostLink) -> frozenset[str]:
    """Where a VXLAN link sends what has no known place; what a routing daemon told the kernel is its own matter."""
    # Only for a strict socket the kernel selects by link.
    with at_home(), Rtnetlink(strict=True) as host:
        entries = host.dump(GET_NEIGHBOUR, NEIGHBOUR.pack(_AF_BRIDGE, tunnel.index, 0, 0, 0))
    return frozenset(remote for entry in entries if (remote := _remote(entry, tunnel.index)) is not None)


def _remote(answer: bytes, tunnel: int) -> str | None:
    _, index, state, flags, _ = NEIGHBOUR.unpack_from(answer)
    found = attributes(answer, NEIGHBOUR.size)
    by_hand = bool(state & _NUD_PERMANENT) and not flags & _NTF_EXT_LEARNED
    if index != tunnel or not by_hand or found.get(_NDA_LLADDR, b"").hex(":") != UNKNOWN or _NDA_DST not in found:
        return None
    return str(ipaddress.ip_address(found[_NDA_DST]))


def vlans(host: Rtnetlink, port: HostLink) -> frozenset[PortVlan]:
    """What passes a port of a bridge."""
    # EINVAL: it is no port of a bridge yet, or any more.
    answers = host.dump(GET_VLAN, _VLAN.pack(_AF_BRIDGE, port.index), nothing=errno.EINVAL)
    return frozenset(
        vlan for answer in answers if _VLAN.unpack_from(answer)[1] == port.index for vlan in _vlans(answer)
    )


def _vlans(answer: bytes) -> Iterator[PortVlan]:
    for kind, entry in each_attribute(answer, _VLAN.size):
        if kind == _VLANDB_ENTRY:
            found = attributes(entry)
            flags, first = _VLAN_INFO.unpack_from(found[_ENTRY_INFO])
            for vid in range(first, (number(found.get(_ENTRY_RANGE)) or first) + 1):
                yield vid, bool(flags & _BRIDGE_VLAN_INFO_PVID)
