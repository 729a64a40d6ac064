"""What is on a node and belongs to no VM of OpenNebula."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, RemoveNetwork, warning


def check(facts: Facts) -> Iterator[Finding]:
    """Containers with our label, and namespaces. The controller removes them itself after ``orphan_grace_s``."""
    if facts.oned_error:
        return
    for node in facts.nodes:
        labelled = {container.vm: container.name for container in node.containers if container.vm is not None}
        for vm in sorted(labelled.keys() - facts.vms):
            yield warning(
                f"container {labelled[vm]} on node {node.name} belongs to no VM of OpenNebula",
                f"docker rm --force {labelled[vm]}, on the node: its data is lost",
            )
        for vm in sorted(set(node.networks) - facts.vms - labelled.keys()):
            yield warning(
                f"namespace one-{vm} on node {node.name} belongs to no VM of OpenNebula",
                "onedock doctor --fix",
                RemoveNetwork(node.name, vm),
            )
