"""A VM's network by the same netlink messages in a bare loop of pyroute2: no plan, memory, service or notifications."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.seen import vm_group
from onedock.reconcilers.model import Network, Nic, VmId, namespace_name

_IFA_F_NODAD = 0x02
_RTPROT_STATIC = 4
_LOOPBACK = 1


class BareNetlink:
    """One socket in the node's namespace, which stays open; for each VM one in its namespace, which must be new.

    To be used in a thread of its own: it wanders between namespaces.
    """

    def __init__(self, node: Path, bridges: Sequence[str], *, looks: bool) -> None:
        """``node`` is the file of the namespace that plays the node; the bridges are made in it.

        ``looks``: all that the agent looks at is looked at before and after a change; else only what changes something
        is said, as by a script that believes that all is as it left it.
        """
        self._looks = looks
        self._node = str(node)
        self._bridge_names = bridges
        self._made: set[VmId] = set()

    def __enter__(self) -> Self:
        namespaces.enter(self._node)
        self._host = IPRoute()
        for name in self._bridge_names:
            self._host.link("add", ifname=name, kind="bridge", state="up")
        self._bridges = {name: self._host.link_lookup(ifname=name)[0] for name in self._bridge_names}
        return self

    def __exit__(self, *_: object) -> None:
        for vm in self._made:
            namespaces.remove(namespace_name(vm))
        for index in self._bridges.values():
            self._host.link("del", index=index)
        self._host.close()
        namespaces.enter_home()

    def plumb(self, network: Network) -> None:
        """Namespace, links, addresses, routes."""
        name = namespace_name(network.vm)
        self._made.add(network.vm)
        namespaces.enter(self._node)
        self._look_outside(network)
        namespaces.create_and_enter(name)
        with IPRoute() as inner:
            inner.link("set", index=_LOOPBACK, state="up")
            for nic in network.nics:
                self._create(name, network, nic)
                index = inner.link("get", ifname=nic.name)[0]["index"]
                for address in nic.addresses:
                    self._address(inner, "add", index, address)
                inner.link("set", index=index, state="up")
                for gateway in nic.gateways:
                    self._route(inner, index, nic, gateway)
            self._look_outside(network)
            self._look_inside(inner)

    def update(self, before: Network, after: Network) -> None:
        """Replace the addresses of all NICs."""
        namespaces.enter(namespace_name(after.vm))
        with IPRoute() as inner:
            self._look_outside(after)
            self._look_inside(inner)
            for old, new in zip(before.nics, after.nics, strict=True):
                index = inner.link("get", ifname=new.name)[0]["index"]
                for address in old.addresses:
                    self._address(inner, "del", index, address)
                for address in new.addresses:
                    self._address(inner, "add", index, address)
                for gateway in new.gateways:  # it went with its subnet
                    self._route(inner, index, new, gateway)
            self._look_outside(after)
            self._look_inside(inner)

    def remove(self, network: Network) -> None:
        """Links, then the namespace."""
        namespaces.enter(self._node)
        self._host.link("del", group=vm_group(network.vm))
        namespaces.remove(namespace_name(network.vm))
        self._made.discard(network.vm)

    def _look_outside(self, network: Network) -> None:
        if self._looks:
            for name in {name for nic in network.nics for name in (nic.bridge, nic.host_name)}:
                with suppress(NetlinkError):  # not there yet
                    self._host.link("get", ifname=name)

    def _look_inside(self, inner: IPRoute) -> None:
        if self._looks:
            for dump in (inner.get_links, inner.get_addr, inner.get_routes, inner.get_rules):
                for _ in dump():
                    pass

    def _create(self, namespace: str, network: Network, nic: Nic) -> None:
        target = os.open(namespaces.path(namespace), os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._host.link(
                "add",
                ifname=nic.host_name,
                kind="veth",
                group=vm_group(network.vm),
                master=self._bridges[nic.bridge],
                address="fe" + nic.mac[2:],
                state="up",
                peer={"ifname": nic.name, "address": nic.mac, "net_ns_fd": target},
            )
        finally:
            os.close(target)
        self._host.link("set", ifname=nic.host_name, ifalias=f"bare:{network.vm}")

    @staticmethod
    def _address(inner: IPRoute, command: str, index: int, cidr: str) -> None:
        address, _, prefix = cidr.partition("/")
        flags: dict[str, Any] = {"flags": _IFA_F_NODAD} if ":" in address and command == "add" else {}
        inner.addr(command, index=index, address=address, prefixlen=int(prefix), **flags)

    @staticmethod
    def _route(inner: IPRoute, index: int, nic: Nic, gateway: str) -> None:
        family = 10 if ":" in gateway else 2
        priority = 100 + nic.index
        inner.route(
            "add",
            family=family,
            dst="default",
            gateway=gateway,
            oif=index,
            priority=priority,
            proto=_RTPROT_STATIC,
        )
