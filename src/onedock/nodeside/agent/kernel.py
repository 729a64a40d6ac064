"""Netlink sockets for one operation on one VM: in the agent's namespace, and in the VM's once it exists.

pyroute2's synchronous classes must not be used inside an event loop, and its ``netns=`` forks; so the thread itself
enters the VM's namespace, and keeps a socket open in the agent's own.
"""

import errno
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import namespaces, reading
from onedock.nodeside.agent.firewall.loaded import LOADED
from onedock.nodeside.agent.qdiscs import Qdiscs
from onedock.nodeside.agent.seen import Seen, vm_group
from onedock.nodeside.agent.steps import Scope
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Network, VmId, namespace_name


class Kernel:
    """A context; within it, the calling thread stands in the VM's namespace, if there is one."""

    def __init__(self, vm: VmId) -> None:
        self.vm = vm
        self.namespace = namespace_name(vm)
        self._inner: IPRoute | None = None
        self._qdiscs: dict[bool, Qdiscs] = {}
        self._indices: dict[tuple[IPRoute, str], int] = {}

    def __enter__(self) -> Self:
        namespaces.enter_home()
        self.host = IPRoute()
        try:
            if namespaces.exists(self.namespace):
                namespaces.enter(self.namespace)
                self._inner = IPRoute()
        except BaseException:
            self.host.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for qdiscs in self._qdiscs.values():
            qdiscs.close()
        if self._inner is not None:
            self._inner.close()
        self.host.close()

    @property
    def inner(self) -> IPRoute:
        """The socket in the VM's namespace. TransientError: there is none."""
        if self._inner is None:
            raise TransientError(f"namespace {self.namespace} vanished; try again")
        return self._inner

    def create_namespace(self) -> None:
        """Make the VM's namespace and stand in it."""
        # A bare file is left when an agent was killed between making and mounting it.
        namespaces.remove(self.namespace)
        namespaces.create_and_enter(self.namespace)
        self._inner = IPRoute()

    def qdiscs(self, *, inside: bool) -> Qdiscs:
        """The socket for queueing disciplines, in the VM's namespace or in the agent's."""
        if inside not in self._qdiscs:
            with nullcontext() if inside else namespaces.at_home():
                self._qdiscs[inside] = Qdiscs()
        return self._qdiscs[inside]

    def read(self, known: Network | None, earlier: Network | None = None) -> Seen:
        """What is there now of what ``known`` and ``earlier`` name."""
        seen = replace(reading.read(self.host, self._inner, known, earlier, self.qdiscs), rules=self._rules())
        self._indices = {(self.host, name): link.index for name, link in seen.host.items()}
        return seen

    def _rules(self) -> dict[Scope, str]:
        places: dict[Scope, AbstractContextManager[None]] = {Scope.NODE: namespaces.at_home()}
        if self._inner is not None:
            places[Scope.VM] = nullcontext()
        looked = ((scope, LOADED.look(self.vm, scope, place)) for scope, place in places.items())
        return {scope: digest for scope, digest in looked if digest is not None}

    def delete_links(self) -> None:
        """Delete all host sides of the VM with one message: each alone would wait for an RCU grace period."""
        try:
            self.host.link("del", group=vm_group(self.vm))
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise

    def index(self, socket: IPRoute, name: str) -> int:
        """Index of a link. pyroute2 would send a request without one as it is; here that is an error."""
        if (socket, name) not in self._indices:
            self._indices[socket, name] = socket.link("get", ifname=name)[0]["index"]
        return self._indices[socket, name]

    def mtu(self, name: str) -> int:
        """MTU of a link of the node."""
        answer = self.host.link("get", ifname=name)[0]
        self._indices[self.host, name] = answer["index"]
        return int(answer.get("mtu"))

    def forget_indices(self) -> None:
        """A link went: another may get its name with a new index."""
        self._indices.clear()
