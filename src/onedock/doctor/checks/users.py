"""Whether users may write attributes into a NIC that decide over what all VMs of a node share."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, warning
from onedock.doctor.sensitive import SENSITIVE


def check(facts: Facts) -> Iterator[Finding]:
    """All of them are restricted to oneadmin's group."""
    if facts.restricted is None:
        return
    free = sorted(SENSITIVE - facts.restricted)
    if free:
        yield warning(
            f"users may write {free[0]} and {len(free) - 1} more attributes into their VMs' NICs: "
            "they change links of the node and switch filters off",
            "add the VM_RESTRICTED_ATTR lines of docs/networking.md (What users may write) to oned.conf, restart oned",
        )
