"""The switch that a NIC is plugged into, and what its port lets through."""

from onedock.controller.networks.options import ovs_options
from onedock.controller.networks.values import VLANS, Source, vlan_list
from onedock.reconcilers.nic_parts import OvsPort, Switch, TrunkPort

DRIVERS = frozenset({"bridge", "fw", "dummy", "802.1Q", "vxlan", "ovswitch", "ovswitch_vxlan"})
OVS_DRIVERS = frozenset({"ovswitch", "ovswitch_vxlan"})
IN_BRIDGE = frozenset({"bridge", "fw", "ovswitch"})
"""Drivers that make PHYDEV itself a port of the bridge."""


def switch(nic: Source) -> Switch:
    """What NIC/BRIDGE is. Raises TerminalError: driver or kind of bridge cannot be used."""
    driver = nic.text("VN_MAD")
    mode = nic.text("NETWORK_MODE").lower()
    if mode == "dummy" or (mode and not driver):  # nobody chooses a network for a NIC that is attached
        raise nic.refusal(f"NETWORK_MODE={mode[:20]}, a NIC in no network, is not supported; name a NETWORK")
    if driver not in DRIVERS:
        raise nic.refusal(f"VN_MAD={driver[:20]!r} is not supported; use bridge, fw, 802.1Q, vxlan, ovswitch or dummy")
    kind = nic.text("BRIDGE_TYPE") or ("openvswitch" if driver in OVS_DRIVERS else "linux")
    if kind not in set(Switch):
        raise nic.refusal(f"BRIDGE_TYPE={kind[:20]!r} is not supported; use linux, or openvswitch with VN_MAD=ovswitch")
    if driver != "dummy" and (kind == "openvswitch") != (driver in OVS_DRIVERS):
        raise nic.refusal(f"BRIDGE_TYPE={kind} does not fit VN_MAD={driver}; leave BRIDGE_TYPE out")
    return Switch(kind)


def trunk_port(nic: Source) -> TrunkPort | None:
    """The VLAN filter of a Linux bridge's port; None: there is none, and all frames pass as they are.

    ``bridge`` and ``fw`` filter by VLAN_TAGGED_ID where there is a PHYDEV, ``802.1Q`` by CVLANS with its VLAN_ID as the
    port's own, as the stock drivers do (no_vlan.rb, vlan_tag_driver.rb).

    Raises:
        TerminalError: not a list of VLAN ids.
    """
    driver = nic.text("VN_MAD")
    if driver in {"bridge", "fw"} and nic.text("PHYDEV"):
        tagged = vlan_list(nic, "VLAN_TAGGED_ID")
        return TrunkPort(tagged) if tagged else None
    if driver == "802.1Q":
        tagged = vlan_list(nic, "CVLANS")
        return TrunkPort(tagged, nic.number("VLAN_ID", nic.text("VLAN_ID"), VLANS)) if tagged else None
    return None


def ovs_port(nic: Source) -> OvsPort:
    """The port of an Open vSwitch bridge.

    Raises:
        TerminalError: not VLAN ids, or inner VLANs without an outer one.
    """
    if nic.text("VN_MAD") not in OVS_DRIVERS:
        return OvsPort()
    tag = nic.number("VLAN_ID", nic.text("VLAN_ID"), VLANS)
    cvlans = vlan_list(nic, "CVLANS")
    qinq_type = nic.text("QINQ_TYPE").lower() or "802.1q"
    if cvlans and tag is None:
        raise nic.refusal("CVLANS needs VLAN_ID, the outer VLAN; set it in the virtual network")
    if qinq_type not in {"802.1q", "802.1ad"}:
        raise nic.refusal(f"QINQ_TYPE must be 802.1q or 802.1ad, not {qinq_type[:20]!r}")
    return OvsPort(tag, vlan_list(nic, "VLAN_TAGGED_ID"), cvlans, qinq_type, ovs_options(nic))
