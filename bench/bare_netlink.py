"""A VM's network by the same netlink messages in a bare loop: no plan, memory, service or announcement."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from bench.netlink_calls import Calls
from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.seen import vm_group
from onedock.reconcilers.model import Network, VmId, namespace_name


class BareNetlink:
    """A script; one that does not look believes that all is as it left it.

    One socket in the node's namespace stays open; for each VM there is one in its namespace, which must be new. To be
    used in a thread of its own: it wanders between namespaces.
    """

    def __init__(self, node: Path, bridges: Sequence[str], calls: Callable[[], Calls], *, looks: bool) -> None:
        """``node`` is the file of the namespace that plays the node; it has the bridges. ``calls`` opens sockets.

        ``looks``: before and after, all is read that the agent reads.
        """
        self._node = str(node)
        self._bridge_names = bridges
        self._calls = calls
        self._looks = looks
        self._made: set[VmId] = set()

    def __enter__(self) -> Self:
        namespaces.enter(self._node)
        self._host = self._calls()
        self._bridges = {name: self._host.index(name) for name in self._bridge_names}
        return self

    def __exit__(self, *_: object) -> None:
        for vm in self._made:
            namespaces.remove(namespace_name(vm))
        self._host.__exit__()
        namespaces.enter_home()

    def plumb(self, network: Network) -> None:
        """Namespace, links, addresses, routes."""
        name, group = namespace_name(network.vm), vm_group(network.vm)
        self._made.add(network.vm)
        self._look(network)
        namespaces.create_and_enter(name)
        with self._calls() as inner:
            inner.up("lo")
            for nic in network.nics:
                target = os.open(namespaces.path(name), os.O_RDONLY | os.O_CLOEXEC)
                self._host.veth(nic, group, self._bridges[nic.bridge], target)
                os.close(target)
                self._host.label(nic.host_name, f"bare:{network.vm}")
                index = inner.index(nic.name)
                for address in nic.addresses:
                    inner.add_address(index, address)
                inner.up(nic.name)
                for gateway in nic.gateways:
                    inner.add_gateway(index, gateway, 100 + nic.index)
            self._look(network, inner)

    def update(self, before: Network, after: Network) -> None:
        """Replace the addresses of all NICs; what is new comes before what is old goes, so the routes stay."""
        namespaces.enter(namespace_name(after.vm))
        with self._calls() as inner:
            self._look(after, inner)
            for old, new in zip(before.nics, after.nics, strict=True):
                index = inner.index(new.name)
                for address in new.addresses:
                    inner.add_address(index, address)
                for address in old.addresses:
                    inner.remove_address(index, address)
            self._look(after, inner)

    def remove(self, network: Network) -> None:
        """Links, then the namespace."""
        self._host.delete_group(vm_group(network.vm))
        namespaces.remove(namespace_name(network.vm))
        self._made.discard(network.vm)

    def _look(self, network: Network, inner: Calls | None = None) -> None:
        """At the links outside, and where there is a namespace, at all in it."""
        if not self._looks:
            return
        for name in sorted({name for nic in network.nics for name in (nic.bridge, nic.host_name)}):
            self._host.look_for(name)
        if inner is not None:
            inner.look_around()
