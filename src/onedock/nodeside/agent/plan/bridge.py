"""Bridges, and the physical devices in them."""

from collections.abc import Iterator

from onedock.nodeside.agent.seen import BRIDGE_ALIAS, BRIDGE_GROUP, HostLink, Seen
from onedock.nodeside.agent.steps import CreateBridge, Label, PlugIn, RaiseHostLink, Step
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Nic


def is_disposable(bridge: HostLink, ports: frozenset[str], phydevs: frozenset[str]) -> bool:
    """Whether a bridge that a VM has left may go: made by ONEDock, with no ports but the physical devices."""
    return bridge.kind == "bridge" and bridge.group == BRIDGE_GROUP and ports <= phydevs


def plan_bridge(nic: Nic, seen: Seen) -> Iterator[Step]:
    """The bridge of a NIC is there and up. Raises TerminalError when something else has its name."""
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


def plan_phydev(name: str, bridge: str, seen: Seen) -> Iterator[Step]:
    """A physical device is port of the bridge and up. Raises TerminalError when it is absent or elsewhere."""
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
