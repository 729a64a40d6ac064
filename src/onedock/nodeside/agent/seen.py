"""What the kernel shows of one VM's network, as values, and how that reads in the words of what is wanted.

Ownership is the link group: the kernel sets it in the message that creates a link, so that no crash can leave
a link of ours unmarked. The ``ifalias`` says the same to people, but can only be set afterwards.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from onedock.reconcilers.model import ContainerId, Network, Nic, ObservedNetwork, ObservedNic, VmId

BRIDGE_GROUP = 0x7FFFFFFF
BRIDGE_ALIAS = "onedock"


def vm_group(vm: VmId) -> int:
    """The link group of all host sides of a VM's NICs."""
    return 0x40000000 | vm


def vm_alias(vm: VmId) -> str:
    """The ifalias of all host sides of a VM's NICs."""
    return f"onedock:{vm}"


@dataclass(frozen=True, slots=True)
class HostLink:
    """A link in the agent's own namespace."""

    name: str
    index: int
    kind: str = ""
    """``bridge``, ``veth``…; empty for hardware."""
    group: int = 0
    alias: str = ""
    mtu: int = 1500
    up: bool = False
    master: str | None = None
    """Name of the bridge that it is a port of."""
    peer: int = 0
    """Index of the other end of a veth, in the namespace where that is."""


@dataclass(frozen=True, slots=True)
class InnerLink:
    """A link in the VM's namespace."""

    name: str
    index: int
    kind: str = ""
    mac: str = ""
    mtu: int = 1500
    up: bool = False
    carrier: bool = False
    peer: int = 0
    """Index of the other end of a veth, in the agent's own namespace."""
    addresses: tuple[str, ...] = ()
    """CIDR, canonical, permanent ones only, in the kernel's order."""
    gateways: tuple[tuple[str, int], ...] = ()
    """(gateway, metric) of static default routes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that a plan for one VM has to know."""

    namespace: bool = False
    loopback_up: bool = False
    inner: tuple[InnerLink, ...] = ()
    """Without the loopback."""
    host: Mapping[str, HostLink] = field(default_factory=dict)
    """Wanted bridges, physical devices and host sides, and peers of ``inner``, as far as they exist."""

    def host_side(self, inner: InnerLink, vm: VmId) -> HostLink | None:
        """Our end of a veth in the namespace; None when the link was not made by ONEDock for this VM."""
        for link in self.host.values():
            if link.index == inner.peer and link.peer == inner.index and link.group == vm_group(vm):
                return link
        return None


def canonical_address(address: str) -> str:
    """The spelling of a CIDR string that the kernel's answers have."""
    return str(ipaddress.ip_interface(address))


def canonical_gateway(gateway: str) -> str:
    """The spelling of an address that the kernel's answers have."""
    return str(ipaddress.ip_address(gateway))


def metric(nic: Nic) -> int:
    """Metric of a NIC's default routes: the lowest NIC_ID wins, and no NIC disturbs another's."""
    return 100 + nic.index


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
