"""The kernel's netlink answers as the values of ``seen``. Reads only, in the threads of ``netlink``."""

from collections.abc import Iterable
from dataclasses import replace

from onedock.nodeside.agent import ovs, qdiscs
from onedock.nodeside.agent.ovs_rows import MASTER, OURS, OpenVswitch
from onedock.nodeside.agent.reading import shared
from onedock.nodeside.agent.reading.dumps import dump
from onedock.nodeside.agent.reading.inside import LOOPBACK_NAME, read_inside
from onedock.nodeside.agent.reading.links import Links, host_link, ports
from onedock.nodeside.agent.rtnetlink.socket import Rtnetlink
from onedock.nodeside.agent.seen import HostLink, InnerLink, Seen
from onedock.reconcilers.model import Network, Nic
from onedock.reconcilers.nic_parts import Switch, Vxlan

__all__ = ["LOOPBACK_NAME", "dump", "host_link", "ports", "read", "read_filtering"]


def read(host: Rtnetlink, inner: Rtnetlink | None, known: Network | None, earlier: Network | None) -> Seen:
    """Read the VM's namespace, and of the agent's own the links that the networks name or that are peers."""
    links = Links(host)
    nics = known.nics if known is not None else ()
    for nic in nics:
        for name in (nic.bridge, nic.host_name, nic.phydev):
            if name is not None:
                links.by_name(name)
    before = earlier.nics if earlier is not None else ()
    for nic in before:
        if nic.phydev is not None:
            links.by_name(nic.phydev)
    uplinks = {nic.bridge: _read_uplink(host, links, nic) for nic in nics if nic.uplink is not None}
    own = shared.own_addresses(host) if any(_needs_addresses(nic) for nic in nics) else ()
    _read_trunks(host, links, nics, before)
    inside = read_inside(inner) if inner is not None else None
    for inner_link in inside.links if inside is not None else ():
        if inner_link.kind == "veth":
            links.by_index(inner_link.peer)
    sides = (links.by_name(nic.host_name) for nic in nics if nic.inbound is not None)
    if limited := [side.index for side in sides if side is not None and side.limited]:
        for index, bucket in qdiscs.roots(host, limited).items():
            links.amend(index, bucket=bucket)
    switch = _read_switch(links, (*nics, *before))
    seen = Seen(host=links.values(), uplinks=uplinks, own_addresses=own, ovs=switch)
    if inner is None or inside is None:
        return seen
    return replace(
        seen,
        namespace=True,
        loopback_up=inside.loopback_up,
        inner=_with_buckets(inner, inside.links),
        source_rules=inside.source_rules,
    )


def _read_uplink(host: Rtnetlink, links: Links, nic: Nic) -> frozenset[str]:
    assert nic.uplink is not None
    links.by_name(nic.uplink.phydev)
    link = links.by_name(nic.uplink.name)
    if link is not None and isinstance(nic.uplink, Vxlan) and nic.uplink.group is None and link.kind == "vxlan":
        links.amend(link.index, remotes=shared.remotes(link))
    return links.uplinks(nic.bridge)


def _read_switch(links: Links, nics: Iterable[Nic]) -> OpenVswitch | None:
    bridges = {nic.bridge for nic in nics if nic.switch is Switch.OPENVSWITCH}
    if not bridges and MASTER not in links.values():
        return None
    switch = ovs.read()
    for port in switch.ports.values():
        if port.bridge in bridges and port.has_mark(OURS):
            links.by_name(port.name)
    return switch


def _needs_addresses(nic: Nic) -> bool:
    return isinstance(nic.uplink, Vxlan) and (bool(nic.uplink.remotes) or nic.uplink.tep == "local_ip")


def read_filtering(
    host: Rtnetlink, name: str, ways_out: frozenset[str]
) -> tuple[HostLink, tuple[HostLink, ...]] | None:
    """A bridge that filters VLANs, and its ways out with their VLANs; None: it does not, or is not there."""
    links = Links(host)
    bridge = links.by_name(name) if links.filters_vlans(name) else None
    if bridge is None:
        return None
    found = (port for port in ports(host, bridge) if port.name in ways_out)
    return bridge, tuple(replace(port, vlans=shared.vlans(host, port)) for port in found)


def _read_trunks(host: Rtnetlink, links: Links, nics: Iterable[Nic], before: Iterable[Nic]) -> None:
    had_trunks = {nic.host_name for nic in before if nic.trunk is not None}
    for nic in nics:
        names: list[str | None] = [nic.host_name] if nic.trunk is not None or nic.host_name in had_trunks else []
        if not names or nic.switch is not Switch.LINUX or not links.filters_vlans(nic.bridge):
            continue
        if nic.trunk is not None:
            names += [nic.phydev, nic.uplink.name if nic.uplink is not None else None]
        for name in names:
            if name is not None and (port := links.by_name(name)) is not None:
                links.amend(port.index, vlans=shared.vlans(host, port))


def _with_buckets(inner: Rtnetlink, links: tuple[InnerLink, ...]) -> tuple[InnerLink, ...]:
    limited = [link.index for link in links if link.limited]
    if not limited:
        return links
    buckets = qdiscs.roots(inner, limited)
    return tuple(replace(link, bucket=buckets.get(link.index)) for link in links)
