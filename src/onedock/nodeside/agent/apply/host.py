"""Links of the node."""

from typing import Any, assert_never

from onedock.nodeside.agent import namespaces, steps
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.rtnetlink import messages
from onedock.nodeside.agent.seen import BRIDGE_GROUP


def apply_to_host(kernel: Kernel, step: steps.HostStep) -> None:
    """Do one step in the agent's namespace. Raises NetlinkError."""
    match step:
        case steps.CreateBridge():
            _create_bridge(kernel, step)
        case steps.DeleteHostLink(name):
            kernel.forget_indices()
            kernel.outside.do(messages.DELETE_LINK, 0, messages.link(name))
        case steps.Label(name, alias):
            _set(kernel, messages.link(name, alias=alias))
        case steps.PlugIn(name, bridge):
            _set(kernel, messages.link(name, master=kernel.index(bridge, inside=False)))
        case steps.Unplug(name):
            _set(kernel, messages.link(name, master=0))
        case steps.RaiseHostLink(name):
            _set(kernel, messages.link(name, up=True))
        case steps.SetHostMtu(name, mtu):
            _set(kernel, messages.link(name, mtu=mtu))
        case _:
            assert_never(step)


def _set(kernel: Kernel, link: bytes) -> None:
    kernel.outside.do(messages.NEW_LINK, 0, link)


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
        # By a bridge without an address it takes no IPv4 either: its other addresses are no matter of VMs, least of
        # all the end of a VXLAN, by which they would send into any network. With an address, any source has a way back.
        namespaces.sysctl(f"ipv4/conf/{step.name}/rp_filter", "2")
    _set(kernel, messages.link(step.name, up=True))
