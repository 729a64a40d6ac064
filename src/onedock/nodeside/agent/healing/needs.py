"""Which links of the node a network cannot do without. Pure."""

from onedock.reconcilers.model import Network
from onedock.reconcilers.nic_parts import Switch, TrunkPort


def bridges(network: Network) -> set[str]:
    """What its NICs are plugged into."""
    return {nic.bridge for nic in network.nics if nic.bridge}


def ways_out(network: Network) -> frozenset[str]:
    """What leads from its bridges to the wire."""
    return frozenset(name for nic in network.nics for name in (nic.phydev, nic.uplink and nic.uplink.name) if name)


def links(network: Network) -> set[str]:
    """All of them, with its own host sides, and what is below its uplinks."""
    below = {nic.uplink.phydev for nic in network.nics if nic.uplink}
    return bridges(network) | ways_out(network) | {nic.host_name for nic in network.nics} | below


def trunks(network: Network) -> set[tuple[str, TrunkPort]]:
    """What has to filter VLANs, and let which ones pass; a bridge that is told to filter lets its default pass."""
    linux = [nic for nic in network.nics if nic.switch is Switch.LINUX]
    told = {(nic.bridge, TrunkPort()) for nic in linux if ("vlan_filtering", "1") in nic.bridge_options}
    return told | {(nic.bridge, nic.trunk) for nic in linux if nic.trunk is not None}
