"""The VM's namespace, its NICs and their addresses."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import namespaces, reading, steps
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.rtnetlink import messages
from onedock.nodeside.agent.rtnetlink.socket import CREATE, EXCLUSIVE
from onedock.nodeside.agent.seen import vm_group


def apply_to_nic(kernel: Kernel, step: steps.NicStep) -> None:
    """Do one step in the VM's namespace. Raises NetlinkError."""
    match step:
        case steps.CreateNamespace():
            kernel.create_namespace()
        case steps.RaiseLoopback():
            _set(kernel, messages.link(reading.LOOPBACK_NAME, up=True))
        case steps.CreateVeth():
            _create_veth(kernel, step)
        case steps.SetMac(name, mac):
            _set(kernel, messages.link(name, mac=mac))
        case steps.SetMtu(name, mtu):
            _set(kernel, messages.link(name, mtu=mtu))
        case steps.RemoveAddress(name, address):
            with _already(errno.EADDRNOTAVAIL):
                what = messages.address(address, kernel.index(name, inside=True))
                kernel.inside.do(messages.DELETE_ADDRESS, 0, what)
        case steps.AddAddress(name, address):
            with _already(errno.EEXIST):
                what = messages.address(address, kernel.index(name, inside=True))
                kernel.inside.do(messages.NEW_ADDRESS, CREATE | EXCLUSIVE, what)
        case steps.RaiseNic(name):
            _set(kernel, messages.link(name, up=True))
        case steps.SetIpv4(name, key, value):
            namespaces.sysctl(f"ipv4/conf/{name}/{key}", str(value))
        case steps.SetIpv6(name, key, value):
            namespaces.sysctl(f"ipv6/conf/{name}/{key}", str(value))
        case _:
            assert_never(step)


@contextmanager
def _already(code: int) -> Iterator[None]:
    """What the kernel did by itself after the look is done: it gives a link its own address when the carrier comes."""
    try:
        yield
    except NetlinkError as error:
        if error.code != code:
            raise


def _set(kernel: Kernel, link: bytes) -> None:
    kernel.inside.do(messages.NEW_LINK, 0, link)


def _create_veth(kernel: Kernel, step: steps.CreateVeth) -> None:
    # What a new bridge has become by its uplink is not in the step.
    carried = kernel.mtu(step.bridge) if step.carried is None and step.bridge is not None else step.carried
    mtu = step.mtu or carried
    widest = max(filter(None, (mtu, carried)), default=None)
    master = None if step.bridge is None else kernel.index(step.bridge, inside=False)
    # A bridge takes the lowest MAC of its ports; a high one on our side never changes it for others.
    high = ("fa" if step.mac.startswith("fe") else "fe") + step.mac[2:]
    outer = messages.link(step.host_name, up=True, mac=high, mtu=widest, master=master, group=vm_group(step.vm))
    # Marked up in this message, the peer would be opened before its other side exists (ENOTCONN).
    inner = messages.link(step.name, mac=step.mac, mtu=mtu)
    namespace = os.open(namespaces.path(kernel.namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.outside.do(messages.NEW_LINK, CREATE | EXCLUSIVE, messages.veth(outer, inner, namespace))
    finally:
        os.close(namespace)
