"""Whether the Docker engines answer and are new enough."""

import re
from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, error, warning

LEAST = (20, 10)


def check(facts: Facts) -> Iterator[Finding]:
    """Reach and version of each."""
    for node in facts.nodes:
        if node.info is None:
            yield error(f"engine of node {node.name}: {node.engine_error}", "systemctl status docker, on the node")
            continue
        version = tuple(int(part) for part in re.findall(r"[0-9]{1,4}", node.info.version)[:2])
        if version < LEAST:
            yield warning(
                f"engine of node {node.name} is {node.info.version}; 20.10 is the oldest tested", "upgrade it"
            )
