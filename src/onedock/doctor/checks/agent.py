"""Whether the node agents answer, are of this release and can write."""

from collections.abc import Iterator

from onedock import __version__
from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, error, warning


def check(facts: Facts) -> Iterator[Finding]:
    """Reach, release and directories of each, the engine's among them."""
    for node in facts.nodes:
        if node.checkup is None:
            yield error(
                f"agent of node {node.name}: {node.agent_error}", "systemctl restart onedock-agent, on the node"
            )
            continue
        if node.checkup.version != __version__:
            yield warning(
                f"agent of node {node.name} is of release {node.checkup.version}, this command of {__version__}",
                "install the same release on the node, then: systemctl restart onedock-agent",
            )
        root = node.checkup.engine_root
        if root and node.info is not None and root != node.info.data_root:
            yield warning(
                f"agent of node {node.name} takes {root} for the engine's data directory, not {node.info.data_root}:"
                " name servers do not follow a running VM",
                f'agent.engine_root = "{node.info.data_root}" there, then: systemctl restart onedock-agent',
            )
        for place in node.checkup.unwritable:
            yield error(f"agent of node {node.name} cannot write {place}", "df; mount; ls -ld, on the node")
