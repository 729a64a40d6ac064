"""VLAN filters of a bridge's ports, as the stock drivers set them for trunks (VLAN_TAGGED_ID, CVLANS)."""

from collections.abc import Collection, Iterable, Iterator

from onedock.nodeside.agent.seen import BRIDGE_GROUP, HostLink, Seen
from onedock.nodeside.agent.steps import AddPortVlans, FilterVlans, PortVlan, RemovePortVlans, Step
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import TrunkPort


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
        yield FilterVlans(nic.bridge, on=True)
    default = _default(bridge)
    for name in (nic.phydev, nic.uplink.name if nic.uplink is not None else None):
        if name is not None and (missing := _wanted(nic.trunk, default) - _present(seen.host.get(name), default)):
            yield AddPortVlans(name, tuple(sorted(missing)))


def plan_trunk_port(nic: Nic, host: HostLink | None, seen: Seen) -> Iterator[Step]:
    """What passes the NIC's own port is what was asked for; the bridge's default, when nothing is any more."""
    if nic.trunk is None and (host is None or host.vlans is None):
        return
    default = _default(seen.host.get(nic.bridge))
    want, have = _wanted(nic.trunk or TrunkPort(), default), _present(host, default)
    # A VLAN that is to be carried otherwise is only overwritten, so that the port is never without it.
    kept = {vid for vid, _ in want}
    if gone := {vlan for vlan in have - want if vlan[0] not in kept}:
        yield RemovePortVlans(nic.host_name, tuple(sorted(gone)))
    if missing := want - have:
        yield AddPortVlans(nic.host_name, tuple(sorted(missing)))


def plan_released_vlans(
    bridge: HostLink, ways_out: Iterable[HostLink], trunks: Collection[TrunkPort]
) -> Iterator[Step]:
    """What no VM on a bridge wants leaves it no more; without ``trunks``, the bridge stops to filter.

    A bridge that others made filters as they set it.
    """
    if bridge.group != BRIDGE_GROUP:
        return
    if not trunks:
        yield FilterVlans(bridge.name, on=False)
    default = _default(bridge)
    own = _wanted(TrunkPort(), default)
    want = own.union(*(_wanted(trunk, default) for trunk in trunks))
    kept = {vid for vid, _ in want}
    for port in ways_out:
        have = _present(port, default)
        if gone := {vlan for vlan in have if vlan[0] not in kept}:
            yield RemovePortVlans(port.name, tuple(sorted(gone)))
        if not own <= have and not any(is_own for _, is_own in have - gone):
            yield AddPortVlans(port.name, tuple(sorted(own)))


def _default(bridge: HostLink | None) -> int:
    return bridge.default_vlan if bridge is not None else 1


def _wanted(trunk: TrunkPort, default: int) -> frozenset[PortVlan]:
    own = default if trunk.untagged is None else trunk.untagged
    return frozenset({*((vid, False) for vid in trunk.tagged if vid != own), *([(own, True)] if own else [])})


def _present(port: HostLink | None, default: int) -> frozenset[PortVlan]:
    if port is not None and port.vlans is not None:
        return port.vlans
    return _wanted(TrunkPort(), default)
