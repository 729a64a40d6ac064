"""Which version of control groups the nodes have; both work, the old one measures and limits less."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, warning


def check(facts: Facts) -> Iterator[Finding]:
    """Engine and agent must speak of the same one."""
    for node in facts.nodes:
        if node.info is None or node.checkup is None:
            continue
        if node.info.cgroup_version != node.checkup.cgroup_version:
            yield warning(
                f"the engine of node {node.name} uses cgroup v{node.info.cgroup_version}, its agent finds "
                f"v{node.checkup.cgroup_version}: counters of VMs will be missing",
                "run engine and agent on the same machine",
            )
