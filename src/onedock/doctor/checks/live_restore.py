"""Whether VMs outlive their engine's process."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, warning


def check(facts: Facts) -> Iterator[Finding]:
    """The engine says so itself."""
    for node in facts.nodes:
        if node.info is not None and not node.info.live_restore:
            yield warning(
                f"live-restore is off in the engine of node {node.name}: VMs end when dockerd is restarted",
                "onedock install node --live-restore, on the node",
            )
