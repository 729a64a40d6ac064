"""Attributes of a VM's NICs that decide over what all VMs of a node share, or over what filters let pass."""

_SHARED = (
    "PHYDEV", "OUTER_VLAN_ID", "CVLANS", "QINQ_TYPE", "MTU", "CONF", "BRIDGE_CONF", "OVS_BRIDGE_CONF", "IP_LINK_CONF",
    "VXLAN_MODE", "VXLAN_TEP", "VXLAN_MC", "VXLAN_REMOTES", "TARGET",
)  # fmt: skip
_ADDRESSES = ("IP6", "IP6_LINK", "IP6_GLOBAL", "IP6_ULA")
"""oned leaves them as they are written where the network has none of that kind."""
_LIMITS = tuple(f"{way}BOUND_{limit}" for way in ("IN", "OUT") for limit in ("AVG_BW", "PEAK_BW", "PEAK_KB"))
_DEFAULTS = ("FILTER_IP_SPOOFING", "FILTER_MAC_SPOOFING", "VLAN_TAGGED_ID", *_LIMITS)
SENSITIVE = frozenset(
    [f"{vector}/{name}" for vector in ("NIC", "NIC_DEFAULT") for name in _SHARED]
    + [f"{vector}/{name}" for vector in ("NIC", "NIC_DEFAULT", "NIC_ALIAS") for name in _ADDRESSES]
    + [f"NIC_DEFAULT/{name}" for name in _DEFAULTS]
)
"""VM_RESTRICTED_ATTR that oned.conf as shipped lacks: docs/networking.md, What users may write."""
