"""Whether users may write attributes into a NIC that decide over what all VMs of a node share."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, warning

_SHARED = (
    "PHYDEV", "OUTER_VLAN_ID", "CVLANS", "QINQ_TYPE", "MTU", "CONF", "BRIDGE_CONF", "OVS_BRIDGE_CONF", "IP_LINK_CONF",
    "VXLAN_MODE", "VXLAN_TEP", "VXLAN_MC", "VXLAN_REMOTES",
)  # fmt: skip
_LIMITS = tuple(f"{way}BOUND_{limit}" for way in ("IN", "OUT") for limit in ("AVG_BW", "PEAK_BW", "PEAK_KB"))
_DEFAULTS = ("FILTER_IP_SPOOFING", "FILTER_MAC_SPOOFING", "VLAN_TAGGED_ID", *_LIMITS)
SENSITIVE = frozenset(
    [f"{vector}/{name}" for vector in ("NIC", "NIC_DEFAULT") for name in _SHARED]
    + [f"NIC_DEFAULT/{name}" for name in _DEFAULTS]
)
"""VM_RESTRICTED_ATTR that oned.conf as shipped lacks: docs/networking.md, What users may write."""


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
