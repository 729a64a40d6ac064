"""What was seen of a VM's network, in the words of what is wanted. Pure."""

from collections.abc import Callable
from dataclasses import replace

from onedock.nodeside.agent.seen import HostLink, InnerLink, Seen, canonical_address, canonical_gateway
from onedock.reconcilers.model import ContainerId, Network, Nic, ObservedNetwork, ObservedNic, VmId


def describe(
    vm: VmId, seen: Seen, wanted: Network | None, containers: tuple[ContainerId, ...]
) -> ObservedNetwork | None:
    """What is there, spelled as in ``wanted`` where both mean the same; None when there is no namespace.

    A physical device and an MTU are only reported where asked for: the kernel cannot tell why they are so.
    """
    if not seen.namespace:
        return None
    by_host_name = {nic.host_name: nic for nic in wanted.nics} if wanted else {}
    nics = []
    for inner in seen.inner:
        host = seen.host_side(inner, vm)
        if host is not None:
            nics.append(_describe_nic(inner, host, seen, by_host_name.get(host.name)))
    return ObservedNetwork(vm=vm, nics=tuple(sorted(nics, key=lambda one: one.nic.index)), containers=containers)


def _describe_nic(inner: InnerLink, host: HostLink, seen: Seen, wanted: Nic | None) -> ObservedNic:
    bridge = seen.host.get(host.master) if host.master else None
    nic = Nic(
        index=_index_in(host.name),
        name=inner.name,
        host_name=host.name,
        mac=inner.mac,
        bridge=host.master or "",
        addresses=inner.addresses,
        gateways=tuple(gateway for gateway, _ in inner.gateways),
    )
    if wanted is not None:
        phydev = seen.host.get(wanted.phydev) if wanted.phydev else None
        nic = replace(
            nic,
            index=wanted.index,
            mac=wanted.mac if wanted.mac.lower() == inner.mac else inner.mac,
            addresses=_spelled(nic.addresses, wanted.addresses, canonical_address),
            gateways=_spelled(nic.gateways, wanted.gateways, canonical_gateway),
            mtu=inner.mtu if wanted.mtu is not None else None,
            phydev=wanted.phydev if phydev is not None and phydev.master == wanted.bridge else None,
        )
    up = inner.up and host.up and bridge is not None and bridge.up
    return ObservedNic(nic=nic, up=up, carrier=inner.carrier)


def _spelled(have: tuple[str, ...], wanted: tuple[str, ...], canonical: Callable[[str], str]) -> tuple[str, ...]:
    """``have`` in the order and spelling of ``wanted``, then what is not wanted."""
    known = {canonical(one) for one in wanted}
    return (*(one for one in wanted if canonical(one) in have), *(one for one in have if one not in known))


def _index_in(host_name: str) -> int:
    """NIC_ID of a name like ``one-7-2``; -1 when it has none."""
    last = host_name.rpartition("-")[2]
    return int(last) if last.isascii() and last.isdecimal() else -1
