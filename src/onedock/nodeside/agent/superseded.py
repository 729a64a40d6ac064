"""What a VM had on the node and is not to have any more: it may be there until the new network has been made once.

What is inside the VM's namespace shows what it is; the way out of a bridge that others made, or a bridge that the VM
has left, does not. Pure.
"""

from onedock.reconcilers.model import Network, Nic


def superseded(wanted: Network, earlier: Network) -> tuple[Nic, ...]:
    """NICs of ``earlier``, without what was inside the VM, that are no more as they were on the node."""
    now = {_on_node(nic) for nic in wanted.nics}
    return tuple(dict.fromkeys(nic for nic in map(_on_node, earlier.nics) if nic not in now))


def asked_anew(wanted: Network, earlier: Network) -> frozenset[tuple[str, str]]:
    """Bridges and the physical devices in them that the VM is to have, and did not have."""
    return _phydevs(wanted) - _phydevs(earlier)


def without(nics: tuple[Nic, ...], asked: frozenset[tuple[str, str]]) -> tuple[Nic, ...]:
    """Of superseded NICs those whose physical device has not been asked for by another VM since: it stays."""
    return tuple(nic for nic in nics if (nic.bridge, nic.phydev) not in asked)


def _phydevs(network: Network) -> frozenset[tuple[str, str]]:
    return frozenset((nic.bridge, nic.phydev) for nic in network.nics if nic.phydev is not None)


def _on_node(nic: Nic) -> Nic:
    return Nic(
        index=nic.index,
        name=nic.name,
        host_name=nic.host_name,
        mac="",
        bridge=nic.bridge,
        phydev=nic.phydev,
        switch=nic.switch,
        uplink=nic.uplink,
        bridge_options=nic.bridge_options,
        keep_bridge=nic.keep_bridge,
        trunk=nic.trunk,
    )
