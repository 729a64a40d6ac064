"""What has to be done to a VM's network, decided from what is wanted and what was seen. Pure."""

import ipaddress
from collections.abc import Iterator

from onedock.nodeside.agent.seen import (
    BRIDGE_ALIAS,
    BRIDGE_GROUP,
    HostLink,
    InnerLink,
    Seen,
    canonical_address,
    canonical_gateway,
    metric,
    vm_alias,
    vm_group,
)
from onedock.nodeside.agent.steps import (
    AddAddress,
    AddGateway,
    CreateBridge,
    CreateNamespace,
    CreateVeth,
    DeleteHostLink,
    Label,
    PlugIn,
    RaiseHostLink,
    RaiseLoopback,
    RaiseNic,
    RemoveAddress,
    RemoveGateway,
    SetHostMtu,
    SetMac,
    SetMtu,
    Step,
)
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic, VmId


def plan(wanted: Network, seen: Seen) -> tuple[Step, ...]:
    """The steps, in order, that turn what was seen into what is wanted; none when nothing differs.

    Raises TerminalError when a link that is not ours is in the way, or a physical device cannot be used.
    """
    kept = {nic.index: pair for nic in wanted.nics if (pair := _pair(wanted.vm, nic, seen)) is not None}
    steps: list[Step] = [] if seen.namespace else [CreateNamespace()]
    if not seen.loopback_up:
        steps.append(RaiseLoopback())
    bridges: set[str] = set()
    for nic in wanted.nics:
        if nic.bridge not in bridges:
            bridges.add(nic.bridge)
            steps.extend(_plan_bridge(nic, seen))
        if nic.phydev is not None:
            steps.extend(step for step in _plan_phydev(nic.phydev, nic.bridge, seen) if step not in steps)
    steps.extend(_plan_deletions(wanted, seen, {host.name for host, _ in kept.values()}))
    for nic in wanted.nics:
        steps.extend(_plan_nic(wanted.vm, nic, seen, kept.get(nic.index)))
    return tuple(steps)


def is_disposable(bridge: HostLink, ports: frozenset[str], phydevs: frozenset[str]) -> bool:
    """Whether a bridge that a VM has left may go: made by ONEDock, with no ports but the physical devices."""
    return bridge.kind == "bridge" and bridge.group == BRIDGE_GROUP and ports <= phydevs


def _pair(vm: VmId, nic: Nic, seen: Seen) -> tuple[HostLink, InnerLink] | None:
    """Both sides of a NIC that exists under its two names already, whatever else is wrong with it."""
    for inner in seen.inner:
        host = seen.host_side(inner, vm)
        if host is not None and (host.name, inner.name) == (nic.host_name, nic.name):
            return host, inner
    return None


def _plan_bridge(nic: Nic, seen: Seen) -> Iterator[Step]:
    bridge = seen.host.get(nic.bridge)
    if bridge is None:
        yield CreateBridge(nic.bridge, nic.mtu)
        yield Label(nic.bridge, BRIDGE_ALIAS)
        return
    if bridge.kind != "bridge":
        raise TerminalError(
            f"{nic.bridge} is no Linux bridge on this node but a {bridge.kind or 'hardware'} link;"
            f" name another bridge in the network of NIC {nic.index}"
        )
    if bridge.group == BRIDGE_GROUP and bridge.alias != BRIDGE_ALIAS:
        yield Label(nic.bridge, BRIDGE_ALIAS)
    if not bridge.up:
        yield RaiseHostLink(nic.bridge)


def _plan_phydev(name: str, bridge: str, seen: Seen) -> Iterator[Step]:
    phydev = seen.host.get(name)
    if phydev is None:
        raise TerminalError(f"physical device {name} is missing on this node; correct PHYDEV of the virtual network")
    if phydev.master not in {None, bridge}:
        raise TerminalError(
            f"physical device {name} is in bridge {phydev.master}, not {bridge};"
            " release it there or correct BRIDGE or PHYDEV of the virtual network"
        )
    if phydev.master is None:
        yield PlugIn(name, bridge)
    if not phydev.up:
        yield RaiseHostLink(name)


def _plan_deletions(wanted: Network, seen: Seen, kept: set[str]) -> Iterator[Step]:
    """Our veths that are no wanted NIC, or stand under a wanted name without being that NIC."""
    ours = {host.name for inner in seen.inner if (host := seen.host_side(inner, wanted.vm)) is not None}
    for nic in wanted.nics:
        host = seen.host.get(nic.host_name)
        if host is not None and host.group != vm_group(wanted.vm):
            raise TerminalError(
                f"link {nic.host_name} exists on this node and is not ONEDock's;"
                f" remove or rename it, it is needed for NIC {nic.index} of VM {wanted.vm}"
            )
        if host is not None:
            ours.add(host.name)
    names = {nic.name for nic in wanted.nics}
    for inner in seen.inner:
        if inner.name in names and seen.host_side(inner, wanted.vm) is None:
            raise TerminalError(
                f"link {inner.name} inside VM {wanted.vm} is not ONEDock's but has a NIC's name; remove it"
            )
    for name in sorted(ours - kept):
        yield DeleteHostLink(name)


def _plan_nic(vm: VmId, nic: Nic, seen: Seen, pair: tuple[HostLink, InnerLink] | None) -> Iterator[Step]:
    mac = nic.mac.lower()
    if pair is None:
        bridge = seen.host.get(nic.bridge)
        # A port of lesser MTU would pull a bridge of jumbo frames down for everybody in it.
        mtu = nic.mtu if nic.mtu is not None or bridge is None else bridge.mtu
        yield CreateVeth(vm, nic.host_name, nic.name, mac, nic.bridge, mtu)
        yield Label(nic.host_name, vm_alias(vm))
        inner = InnerLink(nic.name, 0, mac=mac, mtu=nic.mtu or 0)
    else:
        host, inner = pair
        yield from _plan_host_side(vm, nic, host)
    if inner.mac != mac:
        yield SetMac(nic.name, mac)
    if nic.mtu is not None and inner.mtu != nic.mtu:
        yield SetMtu(nic.name, nic.mtu)
    yield from _plan_addresses(nic, inner)
    if not inner.up:
        yield RaiseNic(nic.name)
    yield from _plan_gateways(nic, inner)


def _plan_host_side(vm: VmId, nic: Nic, host: HostLink) -> Iterator[Step]:
    if host.alias != vm_alias(vm):
        yield Label(host.name, vm_alias(vm))
    if nic.mtu is not None and host.mtu != nic.mtu:
        yield SetHostMtu(host.name, nic.mtu)
    if host.master != nic.bridge:
        yield PlugIn(host.name, nic.bridge)
    if not host.up:
        yield RaiseHostLink(host.name)


def _plan_addresses(nic: Nic, inner: InnerLink) -> Iterator[Step]:
    """Addresses of one IPv4 subnet keep their order: the first is the source of what the VM sends.

    So from the first difference within a subnet on, everything is taken away and added again.
    """
    want = _by_subnet(tuple(dict.fromkeys(map(canonical_address, nic.addresses))))
    have = _by_subnet(inner.addresses)
    for subnet, addresses in have.items():
        for address in addresses[_common(addresses, want.get(subnet, ())) :]:
            yield RemoveAddress(nic.name, address)
    for subnet, addresses in want.items():
        for address in addresses[_common(have.get(subnet, ()), addresses) :]:
            yield AddAddress(nic.name, address)


def _by_subnet(addresses: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Addresses by IPv4 subnet. The kernel orders IPv6 in its own way: there, each is a group of its own."""
    groups: dict[str, tuple[str, ...]] = {}
    for address in addresses:
        parsed = ipaddress.ip_interface(address)
        key = str(parsed.network) if parsed.version == 4 else address
        groups[key] = (*groups.get(key, ()), address)
    return groups


def _common(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """Length of the common beginning."""
    length = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        length += 1
    return length


def _plan_gateways(nic: Nic, inner: InnerLink) -> Iterator[Step]:
    want = {(canonical_gateway(gateway), metric(nic)) for gateway in nic.gateways}
    for gateway, number in inner.gateways:
        if (gateway, number) not in want:
            yield RemoveGateway(nic.name, gateway, number)
    subnets = [ipaddress.ip_interface(address).network for address in nic.addresses]
    for gateway, number in sorted(want - set(inner.gateways)):
        onlink = not any(ipaddress.ip_address(gateway) in subnet for subnet in subnets)
        yield AddGateway(nic.name, gateway, number, onlink)
