"""VLAN and VXLAN links, and VLAN filters of bridges."""

from typing import Any, assert_never

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.reading.links import VLAN_FLAGS
from onedock.nodeside.agent.reading.shared import UNKNOWN
from onedock.nodeside.agent.seen import BRIDGE_GROUP

_NUD_PERMANENT, _NUD_NOARP = 0x80, 0x40
_NTF_SELF = 0x02
_PVID, _UNTAGGED = 0x2, 0x4
"""BRIDGE_VLAN_INFO_… of linux/if_bridge.h."""


def apply_to_uplink(kernel: Kernel, step: steps.UplinkStep) -> None:
    """Do one step in the agent's namespace. Raises NetlinkError."""
    match step:
        case steps.CreateUplink():
            lower = kernel.index(step.lower, inside=False) if step.lower is not None else None
            bridge = kernel.index(step.bridge, inside=False) if step.bridge is not None else None
            kernel.host.link("add", **uplink_request(step, lower, bridge))
        case steps.AddRemote(name, address):
            kernel.host.fdb("append", **remote_request(kernel.index(name, inside=False), address))
        case steps.RemoveRemote(name, address):
            kernel.host.fdb("del", **remote_request(kernel.index(name, inside=False), address))
        case steps.FilterVlans(name, on):
            kernel.host.link("set", ifname=name, kind="bridge", br_vlan_filtering=int(on))
        case steps.AddPortVlans(name, vlans):
            _vlans(kernel, "add", name, vlans)
        case steps.RemovePortVlans(name, vlans):
            _vlans(kernel, "del", name, vlans)
        case _:
            assert_never(step)


def uplink_request(step: steps.CreateUplink, lower: int | None, bridge: int | None) -> dict[str, Any]:
    """What makes an uplink, in the words of pyroute2; ``lower`` and ``bridge`` are indices."""
    optional: dict[str, Any] = {} if step.mtu is None else {"mtu": step.mtu}
    if bridge is not None:
        optional["master"] = bridge
    if lower is not None:
        optional["link" if step.kind == "vlan" else "vxlan_link"] = lower
    flags = mask = 0
    for name, value in step.attributes:
        if step.kind == "vlan" and name in VLAN_FLAGS:
            mask |= VLAN_FLAGS[name]
            flags |= VLAN_FLAGS[name] * int(value)
        else:
            optional[f"{step.kind}_{name}"] = int(value) if value.isdecimal() else value
    if mask:
        optional["vlan_flags"] = {"flags": flags, "mask": mask}
    return {
        "ifname": step.name,
        "kind": step.kind,
        "group": BRIDGE_GROUP,
        "state": "up",
        **optional,
    }


def remote_request(tunnel: int, address: str) -> dict[str, Any]:
    """The entry that sends what has no known place to another node as well."""
    return {
        "ifindex": tunnel,
        "lladdr": UNKNOWN,
        "dst": address,
        "state": _NUD_PERMANENT | _NUD_NOARP,
        "flags": _NTF_SELF,
    }


def port_request(port: int, vlans: tuple[steps.PortVlan, ...]) -> dict[str, Any]:
    """VLANs of a port, all in one message."""
    entries = [{"vid": vid, "flags": _PVID | _UNTAGGED if own else 0} for vid, own in vlans]
    return {"index": port, "IFLA_AF_SPEC": {"attrs": [["IFLA_BRIDGE_VLAN_INFO", entry] for entry in entries]}}


def _vlans(kernel: Kernel, command: str, name: str, vlans: tuple[steps.PortVlan, ...]) -> None:
    kernel.host.vlan_filter(command, **port_request(kernel.index(name, inside=False), vlans))
