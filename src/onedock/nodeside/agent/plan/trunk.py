"""VLAN filters of a bridge's ports, as the stock drivers set them for trunks (VLAN_TAGGED_ID, CVLANS)."""

from collections.abc import Iterator

from onedock.nodeside.agent.seen import BRIDGE_GROUP, HostLink, Seen
from onedock.nodeside.agent.steps import AddPortVlans, FilterVlans, PortVlan, RemovePortVlans, Step
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import TrunkPort

_DEFAULT: PortVlan = (1, True)
"""What a bridge gives each new port."""


def plan_trunk_bridge(nic: Nic, seen: Seen) -> Iterator[Step]:
    """The bridge filters, and the way out of it lets the NIC's VLANs pass; others may need more of them.

    Raises TerminalError when the bridge is not ours and does not filter.
    """
    if nic.trunk is None:
        return
    bridge = seen.host.get(nic.bridge)
    if bridge is None or not bridge.filters_vlans:
        if bridge is not None and bridge.group != BRIDGE_GROUP:
            raise TerminalError(
                f"bridge {nic.bridge} is not ONEDock's and does not filter VLANs, as NIC {nic.index} needs;"
                f" switch it on: ip link set {nic.bridge} type bridge vlan_filtering 1"
            )
        yield FilterVlans(nic.bridge)
    for name in (nic.phydev, nic.uplink.name if nic.uplink is not None else None):
        if name is not None and (missing := _wanted(nic.trunk) - _present(seen.host.get(name))):
            yield AddPortVlans(name, tuple(sorted(missing)))


def plan_trunk_port(nic: Nic, host: HostLink | None) -> Iterator[Step]:
    """What passes the NIC's own port is what was asked for."""
    if nic.trunk is None:
        return
    want, have = _wanted(nic.trunk), _present(host)
    # A VLAN that is to be carried otherwise is only overwritten, so that the port is never without it.
    kept = {vid for vid, _ in want}
    if gone := {vlan for vlan in have - want if vlan[0] not in kept}:
        yield RemovePortVlans(nic.host_name, tuple(sorted(gone)))
    if missing := want - have:
        yield AddPortVlans(nic.host_name, tuple(sorted(missing)))


def _wanted(trunk: TrunkPort) -> frozenset[PortVlan]:
    own = _DEFAULT if trunk.untagged is None else (trunk.untagged, True)
    return frozenset({*((vid, False) for vid in trunk.tagged if vid != own[0]), own})


def _present(port: HostLink | None) -> frozenset[PortVlan]:
    return port.vlans if port is not None and port.vlans is not None else frozenset({_DEFAULT})
