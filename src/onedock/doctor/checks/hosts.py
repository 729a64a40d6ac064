"""Whether the hosts of OpenNebula and the nodes of the settings are the same."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, error, warning

_ERROR = frozenset({3, 5})
"""HOST_STATE ERROR and MONITORING_ERROR."""


def check(facts: Facts) -> Iterator[Finding]:
    """Each host of ours is a node, each node a host, and none is in error."""
    if facts.oned_error:
        return
    driver = facts.settings.opennebula.driver
    ours = [host for host in facts.hosts if host.vm_mad == driver]
    for host in ours:
        if facts.settings.node(host.name) is None:
            yield error(
                f"host {host.name!r} of OpenNebula has no table in the settings: its VMs fail",
                f"add [nodes.{host.name}] to onedock.toml, or: onehost delete {host.id}",
            )
        elif host.state in _ERROR:
            yield error(f"host {host.name} is in state ERROR in OpenNebula", f"onehost show {host.id}")
    for node in facts.nodes:
        if all(host.name != node.name for host in ours):
            create = f"onehost create {node.name} --im {driver} --vm {driver}"
            yield warning(f"node {node.name} is no host of OpenNebula with the driver {driver}", create)
