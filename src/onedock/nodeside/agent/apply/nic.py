"""The VM's namespace, its NICs and their addresses."""

import os
from typing import assert_never

from onedock.nodeside.agent import namespaces, reading, steps
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.seen import vm_group

_IFA_F_NODAD = 0x02


def apply_to_nic(kernel: Kernel, step: steps.NicStep) -> None:
    """Do one step in the VM's namespace. Raises NetlinkError."""
    match step:
        case steps.CreateNamespace():
            kernel.create_namespace()
        case steps.RaiseLoopback():
            kernel.inner.link("set", index=reading.LOOPBACK, state="up")
        case steps.CreateVeth():
            _create_veth(kernel, step)
        case steps.SetMac(name, mac):
            kernel.inner.link("set", ifname=name, address=mac)
        case steps.SetMtu(name, mtu):
            kernel.inner.link("set", ifname=name, mtu=mtu)
        case steps.RemoveAddress(name, address):
            _address(kernel, "del", name, address)
        case steps.AddAddress(name, address):
            _address(kernel, "add", name, address)
        case steps.RaiseNic(name):
            kernel.inner.link("set", ifname=name, state="up")
        case steps.SetIpv4(name, key, value):
            namespaces.sysctl(f"ipv4/conf/{name}/{key}", str(value))
        case steps.SetIpv6(name, key, value):
            namespaces.sysctl(f"ipv6/conf/{name}/{key}", str(value))
        case _:
            assert_never(step)


def _create_veth(kernel: Kernel, step: steps.CreateVeth) -> None:
    # What a new bridge has become by its uplink is not in the step.
    mtu = kernel.mtu(step.bridge) if step.mtu is None and step.bridge is not None else step.mtu
    optional = {} if mtu is None else {"mtu": mtu}
    plugged = {} if step.bridge is None else {"master": kernel.index(step.bridge, inside=False)}
    # A bridge takes the lowest MAC of its ports; a high one on our side never changes it for others.
    high = "fa" if step.mac.startswith("fe") else "fe"
    namespace = os.open(namespaces.path(kernel.namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.host.link(
            "add",
            ifname=step.host_name,
            kind="veth",
            group=vm_group(step.vm),
            address=high + step.mac[2:],
            state="up",
            # Marked up in this message, the peer would be opened before its other side exists (ENOTCONN).
            peer={"ifname": step.name, "address": step.mac, "net_ns_fd": namespace, **optional},
            **optional,
            **plugged,
        )
    finally:
        os.close(namespace)


def _address(kernel: Kernel, command: str, name: str, cidr: str) -> None:
    address, _, prefix = cidr.partition("/")
    flags = {"flags": _IFA_F_NODAD} if ":" in address and command == "add" else {}
    index = kernel.index(name, inside=True)
    kernel.inner.addr(command, index=index, address=address, prefixlen=int(prefix), **flags)
