"""Whether onedock-runtime is registered in the engines, and its file is there."""

import os
from collections.abc import Iterator
from pathlib import Path

from onedock.doctor.facts import Facts, NodeFacts
from onedock.doctor.finding import Finding, error

_REMEDY = "onedock install node, on the node"


def check(facts: Facts) -> Iterator[Finding]:
    """By name in the engine; by file where the engine is on this machine."""
    name = facts.settings.containers.runtime
    for node in facts.nodes:
        if node.info is None:
            continue
        path = node.info.runtimes.get(name)
        if path is None:
            yield error(
                f"runtime {name!r} is not registered in the engine of node {node.name}: no VM can start", _REMEDY
            )
        elif problem := _problem(node, path):
            yield error(f"runtime {name!r} of node {node.name}: {problem}: no VM can start", _REMEDY)


def _problem(node: NodeFacts, path: str) -> str:
    if not node.settings.engine.startswith("unix://") or not path.startswith("/"):
        return ""
    if not Path(path).is_file():
        return f"its file {path} is missing"
    return "" if os.access(path, os.X_OK) else f"its file {path} is not executable"
