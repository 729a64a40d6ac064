"""VMs that are not as they should be."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, warning


def check(facts: Facts) -> Iterator[Finding]:
    """What keeps each of them from it, as ``onedock explain`` says."""
    for trouble in facts.troubles:
        yield warning(f"VM {trouble.vm} ({trouble.name}): {trouble.cause}", f"onedock explain {trouble.vm}")
