"""What leads from a bridge to the wire is the same for all VMs on it: when one's changes, it changes for the others.

OpenNebula tells the VMs of a changed virtual network one after the other. Until each was told, what is remembered of
the others would put the earlier way back, again and again. Pure.
"""

from dataclasses import replace

from onedock.reconcilers.model import Network, Nic


def follow(other: Network, changed: Network, earlier: Network) -> Network:
    """The network of another VM, on the ways that ``changed`` has in the place of those of ``earlier``.

    A bridge has one uplink, so that of ``changed`` is everybody's; of several physical devices, only the one that was
    replaced goes. A NIC that has no way out keeps to itself.
    """
    uplinks = {nic.bridge: nic.uplink for nic in changed.nics if nic.uplink is not None}
    phydevs = {
        (nic.bridge, was.phydev): nic.phydev
        for nic in changed.nics
        for was in earlier.nics
        if (was.index, was.bridge) == (nic.index, nic.bridge) and None not in {was.phydev, nic.phydev}
    }

    def moved(nic: Nic) -> Nic:
        uplink = uplinks.get(nic.bridge, nic.uplink) if nic.uplink is not None else None
        return replace(nic, uplink=uplink, phydev=phydevs.get((nic.bridge, nic.phydev), nic.phydev))

    return replace(other, nics=tuple(map(moved, other.nics)))
