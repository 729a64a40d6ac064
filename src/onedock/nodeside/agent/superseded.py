"""What a VM had on the node and is not to have any more: it may be there until the new network has been made once.

What is inside the VM's namespace shows what it is; the way out of a bridge that others made, or a bridge that the VM
has left, does not. Pure.
"""

from collections import defaultdict

from onedock.reconcilers.model import Network, Nic


def superseded(wanted: Network, earlier: Network) -> tuple[Nic, ...]:
    """NICs of ``earlier``, without what was inside the VM, that are no more as they were on the node."""
    now = {_on_node(nic) for nic in wanted.nics}
    return tuple(dict.fromkeys(nic for nic in map(_on_node, earlier.nics) if nic not in now))


def asked_anew(wanted: Network, earlier: Network) -> frozenset[tuple[str, str]]:
    """Bridges and the physical devices in them that the VM is to have, and did not have."""
    return phydevs(wanted) - phydevs(earlier)


def in_turns(wanted: Network, before: tuple[Nic, ...]) -> tuple[Nic, ...]:
    """NICs whose physical devices take each other's place, each of which may be in its bridge while that is not done.

    ``before`` is superseded by ``wanted``, which has not been made since.
    """
    nics = tuple(nic for nic in (*map(_on_node, wanted.nics), *before) if nic.phydev is not None)
    devices = defaultdict(set)
    for nic in nics:
        devices[nic.index, nic.bridge].add(nic.phydev)
    return tuple(nic for nic in nics if len(devices[nic.index, nic.bridge]) > 1)


def without(nics: tuple[Nic, ...], asked: frozenset[tuple[str, str]]) -> tuple[Nic, ...]:
    """Of superseded NICs those whose physical device another VM has not asked for: that one stays."""
    return tuple(nic for nic in nics if (nic.bridge, nic.phydev) not in asked)


def phydevs(network: Network) -> frozenset[tuple[str, str]]:
    """Bridges and the physical devices in them."""
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
