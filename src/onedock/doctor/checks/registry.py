"""Whether the registry of the images answers, and lets us write. Its space is the check ``space``."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, error


def check(facts: Facts) -> Iterator[Finding]:
    """Reach first: without it, rights are not known."""
    registry = facts.settings.registry
    if facts.registry_error:
        yield error(f"the registry cannot be used: {facts.registry_error}", "systemctl status docker-registry")
    elif facts.registry_write_error:
        yield error(
            f"the registry cannot be written: {facts.registry_write_error}",
            f"skopeo login --authfile {registry.auth_file or '/etc/onedock/registry.json'} {registry.address}",
        )
