"""The way of a VM's frames as the kernel shows it: every link twice, to see what is lost meanwhile. For threads.

Reads only; with ``probe``, the VM's kernel is told to look for its gateways, without a packet of the VM's own.
"""

import ipaddress
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.firewall import kernel, shared
from onedock.nodeside.agent.firewall.hits import Hits
from onedock.nodeside.agent.firewall.host import is_watched
from onedock.nodeside.agent.firewall.vm import TABLE, is_filtered
from onedock.nodeside.agent.path.links import Links
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Network, Nic, namespace_name
from onedock.reconcilers.nic_parts import Vlan, Vxlan
from onedock.reconcilers.path import Neighbour, NicPath, PathLink, RuleHits, VmPath
from onedock.reconcilers.path_fault import physical_device

INTERVAL_S = 0.5
PROBE_S = 4.0
"""Three questions, a second apart, and what the kernel makes of their silence."""

_INNER_TABLES = (("inet", TABLE), ("netdev", TABLE))
_NTF_USE = 0x1
_NUD_PROBE = 0x10
_ASKING = frozenset({"incomplete", "delay", "probe"})


def read(network: Network, *, probe: bool = False) -> VmPath:
    """Everything that is on the way of the VM's NICs now. Raises TransientError when it changes meanwhile.

    Takes ``INTERVAL_S`` seconds, with ``probe`` at most ``PROBE_S`` more.
    """
    try:
        with ExitStack() as sockets:
            namespaces.enter_home()
            host, inner = sockets.enter_context(IPRoute()), None
            if namespaces.exists(name := namespace_name(network.vm)):
                namespaces.enter(name)
                inner = sockets.enter_context(IPRoute())
            before = _nics(host, inner, network)
            if probe and inner is not None:
                _probe(inner, before)
            time.sleep(INTERVAL_S)
            after = _nics(host, inner, network)
    except NetlinkError as error:
        raise TransientError(f"network of VM {network.vm} changes while it is read: {error}; try again") from error
    nics = tuple(_compared(old, new) for old, new in zip(before, after, strict=True))
    return VmPath(network.vm, inner is not None, nics, INTERVAL_S)


def _nics(host: IPRoute, inner: IPRoute | None, network: Network) -> tuple[NicPath, ...]:
    outside = Links(host)
    inside = Links(inner) if inner is not None else None
    rules = kernel.counters(_INNER_TABLES) if inner is not None else ()
    with namespaces.at_home():
        forged = shared.counters(network.vm, filter(is_watched, network.nics))
    return tuple(
        replace(
            _nic(nic, outside, inside),
            rules=_hits(nic.name, rules) if is_filtered(nic) else None,
            forged=_hits(nic.host_name, forged) if is_watched(nic) else None,
        )
        for nic in network.nics
    )


def _hits(link: str, all_hits: Iterable[Hits]) -> tuple[RuleHits, ...]:
    return tuple(RuleHits(hit.rule, hit.packets, hit.bytes, words=hit.words) for hit in all_hits if hit.nic == link)


def _nic(nic: Nic, outside: Links, inside: Links | None) -> NicPath:
    phydev = physical_device(nic)
    path = NicPath(
        nic,
        host=outside.link(nic.host_name),
        bridge=outside.link(nic.bridge),
        uplink=outside.link(nic.uplink.name) if nic.uplink is not None else None,
        uplink_to=_uplink_to(nic),
        device=outside.link(phydev) if phydev is not None else None,
        vlans=outside.vlans(nic),
    )
    ways = {link.name for link in (path.host, path.uplink or path.device) if link is not None}
    path = replace(path, other_ports=len(outside.ports(nic.bridge) - ways))
    if inside is None:
        return path
    return replace(
        path,
        inside=inside.link(nic.name),
        joined=inside.peer(nic.name) == outside.index(nic.host_name),
        addresses=inside.addresses(nic.name),
        gateways=(gateways := inside.gateways(nic.name)),
        neighbours=inside.neighbours(nic.name, {*gateways, *nic.gateways}),
    )


def _uplink_to(nic: Nic) -> str:
    match nic.uplink:
        case Vlan(vlan_id=number):
            return f"VLAN {number}"
        case Vxlan(vni=number, group=group, remotes=remotes):
            to = f"group {group}" if group else f"to {', '.join(remotes) or 'learnt remotes'}"
            return f"VXLAN {number}, {to}"
    return ""


def _probe(inner: IPRoute, nics: tuple[NicPath, ...]) -> None:
    """Let the VM's kernel look for its gateways, and wait until it knows."""
    asked: dict[str, set[str]] = {}
    links = Links(inner)
    for path in nics:
        index = links.index(path.nic.name)
        known: Mapping[str, Neighbour] = {one.address: one for one in path.neighbours}
        for gateway in {*path.gateways, *path.nic.gateways} if index else ():
            asked.setdefault(path.nic.name, set()).add(gateway)
            neighbour = known.get(str(ipaddress.ip_address(gateway)))
            try:
                if neighbour is not None and neighbour.mac:
                    inner.neigh("change", dst=gateway, ifindex=index, lladdr=neighbour.mac, state=_NUD_PROBE)
                else:
                    inner.neigh("replace", dst=gateway, ifindex=index, flags=_NTF_USE, state=0)
            except NetlinkError:
                continue  # the link is down: that is the fault, and is found as such
    deadline = time.monotonic() + PROBE_S
    while time.monotonic() < deadline:
        states = {one.state for name, gateways in asked.items() for one in links.neighbours(name, gateways)}
        if not states & _ASKING:
            return
        time.sleep(0.05)


def _compared(before: NicPath, after: NicPath) -> NicPath:
    return replace(
        after,
        rules=_with_hits(before.rules, after.rules),
        forged=_with_hits(before.forged, after.forged),
        inside=_with_losses(before.inside, after.inside),
        host=_with_losses(before.host, after.host),
        bridge=_with_losses(before.bridge, after.bridge),
        uplink=_with_losses(before.uplink, after.uplink),
        device=_with_losses(before.device, after.device),
    )


def _with_losses(before: PathLink | None, after: PathLink | None) -> PathLink | None:
    if before is None or after is None:
        return after
    return replace(after, lost_lately=max(0, _lost(after) - _lost(before)))


def _with_hits(before: tuple[RuleHits, ...] | None, after: tuple[RuleHits, ...] | None) -> tuple[RuleHits, ...] | None:
    if before is None or after is None:
        return after
    packets = {(hit.rule, hit.words): hit.packets for hit in before}
    return tuple(replace(hit, lately=max(0, hit.packets - packets.get((hit.rule, hit.words), 0))) for hit in after)


def _lost(link: PathLink) -> int:
    """Hardware also counts as dropped what it receives and nobody wants; that is no loss of the VM's."""
    counters, queue = link.counters, link.queue
    lost = counters.rx_errors + counters.tx_errors + counters.tx_dropped + (queue.dropped if queue else 0)
    return lost + (counters.rx_dropped if link.kind == "veth" else 0)
