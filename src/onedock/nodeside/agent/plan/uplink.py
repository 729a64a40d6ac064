"""VLAN and VXLAN links that connect a bridge with the wire.

All VMs of a bridge share its uplink. One that is ours is made anew when the network's says something else; one that
others made is used as it is, if it leads to the same network.
"""

import ipaddress
from collections.abc import Iterator

from onedock.nodeside.agent.plan.bridge import find_phydev, plug_shared
from onedock.nodeside.agent.seen import BRIDGE_ALIAS, BRIDGE_GROUP, HostLink, Seen
from onedock.nodeside.agent.steps import (
    AddRemote,
    CreateUplink,
    DeleteHostLink,
    Label,
    RaiseHostLink,
    RemoveRemote,
    SetHostMtu,
    Step,
)
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.nic_parts import Uplink, Vlan, Vxlan

_ENDS = frozenset({"group", "group6", "local", "local6"})
"""Attributes that a tunnel must not have unless they are asked for."""
_SAME_NETWORK = frozenset({"id"})
"""Attributes by which a link that others made is known to lead to the same network."""


def plan_uplink(uplink: Uplink, bridge: str | None, seen: Seen) -> Iterator[Step]:
    """A bridge has this uplink and no other of ours. Raises TerminalError: the name or the device is in use otherwise.

    The other ones go first: together they would join two networks. ``bridge`` is None where others plug it in.
    """
    phydev = find_phydev(uplink.phydev, seen)
    if bridge is not None:
        for name in sorted(seen.uplinks.get(bridge, frozenset()) - {uplink.name}):
            yield DeleteHostLink(name)
    if not phydev.up:
        yield RaiseHostLink(phydev.name)
    attributes = attributes_of(uplink, phydev, seen)
    lower = _lower(uplink, phydev)
    link = seen.host.get(uplink.name)
    if link is not None and _is_other(link, uplink, attributes, lower):
        yield DeleteHostLink(link.name)
        link = None
    if link is None or (link.group == BRIDGE_GROUP and uplink.mtu is not None and link.mtu != uplink.mtu):
        _check_mtu(uplink, phydev)
    if link is None:
        below = phydev.name if lower else None
        yield CreateUplink(uplink.name, uplink.kind, below, bridge, uplink.mtu, tuple(sorted(attributes)))
        yield Label(uplink.name, BRIDGE_ALIAS)
        yield from _plan_remotes(uplink, frozenset(), seen)
        return
    if bridge is not None:
        yield from plug_shared(link, bridge)
    if link.group == BRIDGE_GROUP:
        if link.alias != BRIDGE_ALIAS:
            yield Label(link.name, BRIDGE_ALIAS)
        if uplink.mtu is not None and link.mtu != uplink.mtu:
            yield SetHostMtu(link.name, uplink.mtu)
        yield from _plan_remotes(uplink, link.remotes, seen)
    if not link.up:
        yield RaiseHostLink(link.name)


def attributes_of(uplink: Uplink, phydev: HostLink, seen: Seen) -> frozenset[tuple[str, str]]:
    """What netlink is told of an uplink besides its name and device. Raises TerminalError: it has no address."""
    if isinstance(uplink, Vlan):
        return frozenset({"id": str(uplink.vlan_id), **dict(uplink.options)}.items())
    attributes = {
        "id": str(uplink.vni),
        "port": str(uplink.port),
        "learning": str(int(uplink.learning)),
        **({"ttl": str(uplink.ttl)} if uplink.ttl is not None else {}),
        **dict(uplink.options),
    }
    if uplink.group is not None:
        attributes[_by_family("group", uplink.group)] = _canonical(uplink.group)
    if (local := uplink.local or _first_address(uplink, phydev, seen)) is not None:
        attributes[_by_family("local", local)] = _canonical(local)
    return frozenset(attributes.items())


def _is_other(link: HostLink, uplink: Uplink, attributes: frozenset[tuple[str, str]], lower: int) -> bool:
    """Whether a link of the uplink's name has to be made anew. Raises TerminalError when it is not ours to delete."""
    if link.group == BRIDGE_GROUP:
        ends = {(name, value) for name, value in link.attributes if name in _ENDS}
        return link.kind != uplink.kind or link.peer != lower or not ends <= attributes <= link.attributes
    same = {(name, value) for name, value in attributes if name in _SAME_NETWORK}
    if link.kind != uplink.kind or not same <= link.attributes:
        raise TerminalError(
            f"link {link.name} on this node is not ONEDock's and no {uplink.kind} with id {dict(same)['id']};"
            " remove or rename it, or correct PHYDEV or VLAN_ID of the virtual network"
        )
    return False


def _lower(uplink: Uplink, phydev: HostLink) -> int:
    """Index of the device that the link is bound to; 0: to none."""
    return 0 if isinstance(uplink, Vxlan) and uplink.tep == "local_ip" else phydev.index


def _check_mtu(uplink: Uplink, phydev: HostLink) -> None:
    """Raises TerminalError: the kernel would only say that the argument is invalid."""
    headers = uplink.overhead if isinstance(uplink, Vxlan) else 0
    carried = phydev.mtu - headers
    if _lower(uplink, phydev) and uplink.mtu is not None and uplink.mtu > carried:
        also = f", {headers} of them for the tunnel" if headers else ""
        raise TerminalError(
            f"{uplink.kind} link {uplink.name} cannot have an MTU of {uplink.mtu}: {phydev.name} takes {phydev.mtu}"
            f" bytes{also}; set MTU={carried} in the virtual network, or raise that of {phydev.name} on the node"
        )


def _first_address(uplink: Vxlan, phydev: HostLink, seen: Seen) -> str | None:
    """What the tunnel's packets come from; None: the kernel finds it, and the tunnel speaks IPv4."""
    over_ipv6 = bool(uplink.remotes) and ":" in uplink.remotes[0]
    if uplink.tep != "local_ip" and not over_ipv6:
        return None
    own = sorted((one for index, one in seen.own_addresses if index == phydev.index), key=lambda one: ":" in one)
    fitting = [one for one in own if not uplink.remotes or (":" in one) is over_ipv6]
    if fitting:
        return fitting[0]
    version = "IPv6 " if over_ipv6 else "IPv4 " if uplink.remotes else ""
    other = "name IPv4 addresses in VXLAN_REMOTES" if over_ipv6 else "set VXLAN_TEP=dev in the virtual network"
    raise TerminalError(
        f"physical device {phydev.name} has no {version}address on this node, which the tunnel {uplink.name} needs;"
        f" give it one, or {other}"
    )


def _plan_remotes(uplink: Uplink, have: frozenset[str], seen: Seen) -> Iterator[Step]:
    if isinstance(uplink, Vlan) or uplink.group is not None:
        return
    own = {address for _, address in seen.own_addresses}
    want = {_canonical(remote) for remote in uplink.remotes} - own
    for address in sorted(have - want):
        yield RemoveRemote(uplink.name, address)
    for address in sorted(want - have):
        yield AddRemote(uplink.name, address)


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


def _by_family(name: str, address: str) -> str:
    return f"{name}6" if ":" in address else name
