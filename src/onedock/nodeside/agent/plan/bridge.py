"""Bridges, and the physical devices in them."""

from collections.abc import Iterable, Iterator

from onedock.nodeside.agent.seen import BRIDGE_ALIAS, BRIDGE_GROUP, HostLink, Seen
from onedock.nodeside.agent.steps import CreateBridge, Label, PlugIn, RaiseHostLink, Step, Unplug
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic
from onedock.reconcilers.nic_parts import Switch


def is_unused(ports: Iterable[HostLink], ways_out: frozenset[str]) -> bool:
    """Whether a bridge that a VM has left has no ports but the ways out that it had, and uplinks of ours."""
    return all(port.name in ways_out or is_our_uplink(port) for port in ports)


def is_our_bridge(link: HostLink) -> bool:
    """Whether a bridge was made by ONEDock, and may be removed by it."""
    return link.kind == "bridge" and link.group == BRIDGE_GROUP


def is_our_uplink(link: HostLink) -> bool:
    """Whether a VLAN or VXLAN link was made by ONEDock, and may be removed by it."""
    return link.kind in {"vlan", "vxlan"} and link.group == BRIDGE_GROUP


def plan_bridge(nic: Nic, seen: Seen) -> Iterator[Step]:
    """The bridge of a NIC is there and up. Raises TerminalError when something else has its name."""
    bridge = seen.host.get(nic.bridge)
    if bridge is None:
        yield CreateBridge(nic.bridge, nic.uplink.mtu if nic.uplink else None, nic.bridge_options)
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


def plan_phydev(name: str, bridge: str, seen: Seen) -> Iterator[Step]:
    """A physical device is port of the bridge and up. Raises TerminalError when it is absent or elsewhere."""
    phydev = find_phydev(name, seen)
    yield from plug_shared(phydev, bridge)
    if not phydev.up:
        yield RaiseHostLink(name)


def find_phydev(name: str, seen: Seen) -> HostLink:
    """A physical device. Raises TerminalError when it is absent."""
    phydev = seen.host.get(name)
    if phydev is None:
        raise TerminalError(f"physical device {name} is missing on this node; correct PHYDEV of the virtual network")
    return phydev


def plug_shared(link: HostLink, bridge: str) -> Iterator[Step]:
    """What all VMs of a bridge share is in it. Raises TerminalError when it is in another one."""
    if link.master not in {None, bridge}:
        kind = "VLAN or VXLAN link" if link.kind in {"vlan", "vxlan"} else "physical device"
        raise TerminalError(
            f"{kind} {link.name} is in bridge {link.master}, not {bridge};"
            " release it there or correct BRIDGE or PHYDEV of the virtual network"
        )
    if link.master is None:
        yield PlugIn(link.name, bridge)


def plan_released(wanted: Network, earlier: Network, seen: Seen) -> Iterator[Step]:
    """Physical devices that were in a bridge of the VM leave it when the network now names another one."""
    bridges = {nic.bridge for nic in wanted.nics if nic.switch is Switch.LINUX}
    kept = {nic.phydev for nic in wanted.nics}
    for nic in earlier.nics:
        phydev = seen.host.get(nic.phydev) if nic.phydev is not None and nic.phydev not in kept else None
        if phydev is not None and nic.bridge in bridges and phydev.master == nic.bridge:
            yield Unplug(phydev.name)
