"""Links of the node."""

from typing import Any, assert_never

from onedock.nodeside.agent import namespaces, steps
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.seen import BRIDGE_GROUP


def apply_to_host(kernel: Kernel, step: steps.HostStep) -> None:
    """Do one step in the agent's namespace. Raises NetlinkError."""
    match step:
        case steps.CreateBridge():
            _create_bridge(kernel, step)
        case steps.DeleteHostLink(name):
            kernel.forget_indices()
            kernel.host.link("del", ifname=name)
        case steps.Label(name, alias):
            kernel.host.link("set", ifname=name, ifalias=alias)
        case steps.PlugIn(name, bridge):
            kernel.host.link("set", ifname=name, master=kernel.index(bridge, inside=False))
        case steps.Unplug(name):
            kernel.host.link("set", ifname=name, master=0)
        case steps.RaiseHostLink(name):
            kernel.host.link("set", ifname=name, state="up")
        case steps.SetHostMtu(name, mtu):
            kernel.host.link("set", ifname=name, mtu=mtu)
        case _:
            assert_never(step)


def bridge_request(step: steps.CreateBridge) -> dict[str, Any]:
    """What makes a bridge, in the words of pyroute2."""
    options = {f"br_{name}": int(value) for name, value in step.options}
    optional = {} if step.mtu is None else {"mtu": step.mtu}
    return {"ifname": step.name, "kind": "bridge", "group": BRIDGE_GROUP, "br_stp_state": 0, **optional, **options}


def _create_bridge(kernel: Kernel, step: steps.CreateBridge) -> None:
    kernel.host.link("add", **bridge_request(step))
    with namespaces.at_home():
        # The node is no IPv6 neighbour of its VMs, and takes no router advertisements from them.
        namespaces.sysctl(f"ipv6/conf/{step.name}/disable_ipv6", "1")
    kernel.host.link("set", ifname=step.name, state="up")
