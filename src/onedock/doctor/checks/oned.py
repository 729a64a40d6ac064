"""Whether oned answers, with our credentials."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, error


def check(facts: Facts) -> Iterator[Finding]:
    """Reach and credentials are told apart by oned's own words."""
    if facts.oned_error:
        remedy = f"check opennebula.endpoint and {facts.settings.opennebula.auth_file}; systemctl status opennebula"
        yield error(facts.oned_error, remedy)
