"""What was seen of a VM's network, in the words of what is wanted. Pure."""

from collections.abc import Callable
from dataclasses import replace

from onedock.nodeside.agent.plan import plan
from onedock.nodeside.agent.seen import HostLink, InnerLink, Seen, canonical_address, canonical_gateway
from onedock.nodeside.agent.steps.words import in_words
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import ContainerId, Network, Nic, ObservedNetwork, ObservedNic, VmId
from onedock.reconcilers.nic_parts import Switch


def describe(
    vm: VmId,
    seen: Seen,
    wanted: Network | None,
    containers: tuple[ContainerId, ...],
    planned: Network | None = None,
    *,
    settled: bool = False,
) -> ObservedNetwork | None:
    """What is there: ``wanted`` itself where nothing differs, else what the kernel shows, and what there is to do.

    ``planned`` is ``wanted`` with what only the node knows; ``settled``: whoever has looked knows already that nothing
    differs. None when there is no namespace.
    """
    if not seen.namespace:
        return None
    missing = _missing(planned or wanted, seen) if wanted is not None and not settled else ()
    by_host_name = {nic.host_name: nic for nic in wanted.nics} if wanted else {}
    nics = []
    for inner in seen.inner:
        host = seen.host_side(inner, vm)
        if host is not None:
            known = by_host_name.get(host.name)
            nic = _describe_nic(inner, host, seen, known) if missing or known is None else known
            nics.append(ObservedNic(nic, up=_is_up(inner, host, nic, seen), carrier=inner.carrier))
    return ObservedNetwork(
        vm=vm, nics=tuple(sorted(nics, key=lambda one: one.nic.index)), containers=containers, missing=missing
    )


def _missing(wanted: Network, seen: Seen) -> tuple[str, ...]:
    try:
        return tuple(map(in_words, plan(wanted, seen)))
    except TerminalError as error:
        return (str(error),)


def _is_up(inner: InnerLink, host: HostLink, nic: Nic, seen: Seen) -> bool:
    bridge = seen.host.get(host.master) if host.master else None
    return inner.up and host.up and (nic.switch is not Switch.LINUX or (bridge is not None and bridge.up))


def _describe_nic(inner: InnerLink, host: HostLink, seen: Seen, wanted: Nic | None) -> Nic:
    nic = Nic(
        index=_index_in(host.name),
        name=inner.name,
        host_name=host.name,
        mac=inner.mac,
        bridge=_bridge_of(host, seen),
        addresses=inner.addresses,
        gateways=tuple(gateway for gateway, _ in inner.gateways),
    )
    if wanted is not None:
        phydev = seen.host.get(wanted.phydev) if wanted.phydev else None
        nic = replace(
            wanted,
            bridge=nic.bridge,
            mac=wanted.mac if wanted.mac.lower() == inner.mac else inner.mac,
            addresses=_spelled(nic.addresses, wanted.addresses, canonical_address),
            gateways=_spelled(nic.gateways, wanted.gateways, canonical_gateway),
            mtu=inner.mtu if wanted.mtu is not None else None,
            phydev=wanted.phydev if phydev is not None and phydev.master == wanted.bridge else None,
        )
    return nic


def _bridge_of(host: HostLink, seen: Seen) -> str:
    port = seen.ovs.ports.get(host.name) if seen.ovs is not None else None
    return port.bridge if port is not None else host.master or ""


def _spelled(have: tuple[str, ...], wanted: tuple[str, ...], canonical: Callable[[str], str]) -> tuple[str, ...]:
    """``have`` in the order and spelling of ``wanted``, then what is not wanted."""
    known = {canonical(one) for one in wanted}
    return (*(one for one in wanted if canonical(one) in have), *(one for one in have if one not in known))


def _index_in(host_name: str) -> int:
    """NIC_ID of a name like ``one-7-2``; -1 when it has none."""
    last = host_name.rpartition("-")[2]
    return int(last) if last.isascii() and last.isdecimal() else -1
