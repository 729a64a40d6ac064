"""Both sides of a NIC, and its addresses."""

from collections.abc import Iterator
from itertools import takewhile

from onedock.nodeside.agent.parsed import ip_interface
from onedock.nodeside.agent.plan.methods import NEW
from onedock.nodeside.agent.seen import HostLink, InnerLink, Seen, canonical_address, vm_alias
from onedock.nodeside.agent.steps import (
    AddAddress,
    CreateVeth,
    Label,
    PlugIn,
    RaiseHostLink,
    RemoveAddress,
    SetHostMtu,
    SetMac,
    SetMtu,
    Step,
)
from onedock.reconcilers.model import Nic, VmId
from onedock.reconcilers.nic_parts import Method, Switch

_LEAST_OUTSIDE = 1500
"""A bridge takes the least MTU of its ports: what only one guest asks for stays in its own side of the veth."""

Pair = tuple[HostLink, InnerLink]
"""Both sides of a veth of ours: the node's and the VM's."""


def find_pair(vm: VmId, nic: Nic, seen: Seen) -> Pair | None:
    """Both sides of a NIC that exists under its two names already, whatever else is wrong with it."""
    for inner in seen.inner:
        host = seen.host_side(inner, vm)
        if host is not None and (host.name, inner.name) == (nic.host_name, nic.name):
            return host, inner
    return None


def as_created(nic: Nic, seen: Seen) -> InnerLink:
    """The VM's side of a NIC right after its veth was made."""
    mtu = nic.mtu or _carried(nic, seen) or (nic.uplink.mtu if nic.uplink else None) or _LEAST_OUTSIDE
    return InnerLink(nic.name, 0, mac=nic.mac.lower(), mtu=mtu, ipv6=tuple(NEW.items()))


def _carried(nic: Nic, seen: Seen) -> int | None:
    bridge = seen.host.get(nic.bridge)
    return bridge.mtu if bridge is not None else None


def plan_veth(vm: VmId, nic: Nic, seen: Seen, pair: Pair | None, former: Nic | None) -> Iterator[Step]:
    """The veth is there, plugged in, with its MAC and MTU; the VM's side may still be down.

    A NIC for which nothing says an MTU any more has that of its bridge, as a new one.
    """
    mac = nic.mac.lower()
    if pair is None:
        plugged_into = nic.bridge if nic.switch is Switch.LINUX else None
        yield CreateVeth(vm, nic.host_name, nic.name, mac, plugged_into, nic.mtu, _carried(nic, seen))
        yield Label(nic.host_name, vm_alias(vm))
        return
    host, inner = pair
    had_mtu = former is not None and former.mtu is not None
    mtu = nic.mtu if nic.mtu is not None or not had_mtu else _carried(nic, seen)
    yield from _plan_host_side(vm, nic, host, mtu)
    if inner.mac != mac:
        yield SetMac(nic.name, mac)
    if mtu is not None and inner.mtu != mtu:
        yield SetMtu(nic.name, mtu)


def _plan_host_side(vm: VmId, nic: Nic, host: HostLink, mtu: int | None) -> Iterator[Step]:
    if host.alias != vm_alias(vm):
        yield Label(host.name, vm_alias(vm))
    if mtu is not None and host.mtu < mtu:
        yield SetHostMtu(host.name, max(mtu, _LEAST_OUTSIDE))
    if nic.switch is Switch.LINUX and host.master != nic.bridge:
        yield PlugIn(host.name, nic.bridge)
    if not host.up:
        yield RaiseHostLink(host.name)


def plan_addresses(nic: Nic, inner: InnerLink, former: Nic | None) -> Iterator[Step]:
    """Addresses of one IPv4 subnet keep their order: the first is the source of what the VM sends.

    What is new comes before what is old goes: a NIC loses its IPv4 routes with its last address. Only what has to
    change its place, or its prefix, is taken away before. Where the guest is left to itself, what is neither wanted nor
    was by the ``former`` NIC is its own.
    """
    all_wanted = tuple(dict.fromkeys(map(canonical_address, nic.addresses)))
    ours = {*all_wanted, *map(canonical_address, former.addresses if former is not None else ())}
    want = _by_subnet(all_wanted)
    have = _by_subnet(tuple(one for one in inner.addresses if one in ours or not is_guests(nic, one)))
    keep = {one for subnet, addresses in have.items() for one in _in_place(addresses, want.get(subnet, ()))}
    add = [one for addresses in want.values() for one in addresses if one not in keep]
    remove = [one for addresses in have.values() for one in addresses if one not in keep]
    again = {ip_interface(one).ip for one in add}
    for address in remove:
        if ip_interface(address).ip in again:
            yield RemoveAddress(nic.name, address)
    for address in add:
        yield AddAddress(nic.name, address)
    for address in remove:
        if ip_interface(address).ip not in again:
            yield RemoveAddress(nic.name, address)


def is_guests(nic: Nic, address: str) -> bool:
    """Whether an address, or a route by it, that is not wanted may be one that the guest gave itself."""
    return (nic.method6 if ":" in address else nic.method) is Method.SKIP


def _by_subnet(addresses: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Addresses by IPv4 subnet. The kernel orders IPv6 in its own way: there, each is a group of its own."""
    groups: dict[str, tuple[str, ...]] = {}
    for address in addresses:
        parsed = ip_interface(address)
        key = str(parsed.network) if parsed.version == 4 else address
        groups[key] = (*groups.get(key, ()), address)
    return groups


def _in_place(have: tuple[str, ...], want: tuple[str, ...]) -> tuple[str, ...]:
    """The longest beginning of what is wanted that is there in this order, whatever is in between and goes."""
    rest = iter(have)
    return tuple(takewhile(lambda one: one in rest, want))
