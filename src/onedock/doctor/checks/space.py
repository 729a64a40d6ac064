"""Whether journal, registry, engines and agents have room."""

from collections.abc import Iterator

from onedock.doctor.facts import Disk, Facts
from onedock.doctor.finding import Finding, error, warning

WARNING_SHARE, ERROR_SHARE = 0.10, 0.02


def check(facts: Facts) -> Iterator[Finding]:
    """The free share of each file system."""
    for what, disk, where in _disks(facts):
        if disk is None or not disk.total_bytes:
            continue
        share = disk.free_bytes / disk.total_bytes
        if share < WARNING_SHARE:
            found = error if share < ERROR_SHARE else warning
            yield found(
                f"the disk of {what} is {'full' if share < ERROR_SHARE else 'nearly full'}: "
                f"{disk.free_bytes // 1_000_000} MB free of {disk.total_bytes // 1_000_000}",
                f"free space below {where}",
            )


def _disks(facts: Facts) -> Iterator[tuple[str, Disk | None, str]]:
    yield "the journal", facts.journal_disk, str(facts.settings.controller.state_dir)
    yield "the registry", facts.registry_disk, str(facts.settings.registry.data_dir)
    for node in facts.nodes:
        if node.usage is not None:
            engine = Disk(node.usage.disk_total_bytes, node.usage.disk_free_bytes)
            yield f"the engine of node {node.name}", engine, "its data-root, on the node (docker system df)"
        if node.checkup is not None:
            agent = Disk(node.checkup.disk_total_bytes, node.checkup.disk_free_bytes)
            yield f"the agent of node {node.name}", agent, f"{facts.settings.agent.state_dir}, on the node"
