"""Which links of the node a network cannot do without, and which ports of a switch. Pure."""

from onedock.nodeside.agent.ovs_rows import Columns
from onedock.nodeside.agent.parsed import ip_interface
from onedock.nodeside.agent.plan.ovs import port_columns
from onedock.reconcilers.model import Network
from onedock.reconcilers.nic_parts import Method, Switch, TrunkPort


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


def addresses(network: Network) -> frozenset[tuple[str, bytes, int]]:
    """(name of the NIC, address, length of the prefix) of those that are given for good."""
    found = ((nic.name, ip_interface(address)) for nic in network.nics for address in nic.addresses)
    return frozenset((name, one.packed, one.network.prefixlen) for name, one in found)


def routers(network: Network) -> bool:
    """Whether routers may give it addresses, and take them."""
    return any(nic.method6 is Method.AUTO for nic in network.nics)


def trunks(network: Network) -> set[tuple[str, TrunkPort]]:
    """What has to filter VLANs, and let which ones pass; a bridge that is told to filter lets its default pass."""
    linux = [nic for nic in network.nics if nic.switch is Switch.LINUX]
    told = {(nic.bridge, TrunkPort()) for nic in linux if ("vlan_filtering", "1") in nic.bridge_options}
    return told | {(nic.bridge, nic.trunk) for nic in linux if nic.trunk is not None}


def switch_ports(network: Network) -> dict[str, Columns]:
    """What the rows of its ports of Open vSwitch have to say, by their names."""
    nics = (nic for nic in network.nics if nic.switch is Switch.OPENVSWITCH)
    return {nic.host_name: port_columns(network.vm, nic) for nic in nics}
