"""Netlink sockets for one operation on one VM: in the agent's namespace, and in the VM's once it exists.

pyroute2's synchronous classes must not be used inside an event loop, and its ``netns=`` forks; so the thread itself
enters the VM's namespace, and keeps sockets open in the agent's own.
"""

import errno
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import namespaces, reading
from onedock.nodeside.agent.firewall.loaded import LOADED
from onedock.nodeside.agent.rtnetlink import messages
from onedock.nodeside.agent.rtnetlink.links import IFLA_MTU, Link
from onedock.nodeside.agent.rtnetlink.socket import Rtnetlink
from onedock.nodeside.agent.seen import Seen, vm_group
from onedock.nodeside.agent.steps import Scope
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Network, VmId, namespace_name


class Kernel:
    """A context; within it, the calling thread stands in the VM's namespace, if there is one."""

    def __init__(self, vm: VmId) -> None:
        self.vm = vm
        self.namespace = namespace_name(vm)
        self._open = ExitStack()
        self._inside: Rtnetlink | None = None
        self._host: IPRoute | None = None
        self._indices: dict[tuple[bool, str], int] = {}

    def __enter__(self) -> Self:
        namespaces.enter_home()
        self.outside = self._open.enter_context(Rtnetlink())
        try:
            if namespaces.exists(self.namespace):
                namespaces.enter(self.namespace)
                self._inside = self._open.enter_context(Rtnetlink())
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def inside(self) -> Rtnetlink:
        """The socket in the VM's namespace. TransientError: there is none."""
        if self._inside is None:
            raise TransientError(f"namespace {self.namespace} vanished; try again")
        return self._inside

    @property
    def host(self) -> IPRoute:
        """pyroute2's socket in the agent's namespace."""
        if self._host is None:
            with namespaces.at_home():
                self._host = self._open.enter_context(IPRoute())
        return self._host

    def create_namespace(self) -> None:
        """Make the VM's namespace and stand in it."""
        # A bare file is left when an agent was killed between making and mounting it.
        namespaces.remove(self.namespace)
        namespaces.create_and_enter(self.namespace)
        self._inside = self._open.enter_context(Rtnetlink())

    def read(self, known: Network | None, earlier: Network | None = None) -> Seen:
        """What is there now of what ``known`` and ``earlier`` name."""
        seen = replace(reading.read(self.outside, self._inside, known, earlier), rules=self._rules())
        self._indices = {(False, name): link.index for name, link in seen.host.items()}
        self._indices |= {(True, link.name): link.index for link in seen.inner}
        return seen

    def _rules(self) -> dict[Scope, str]:
        places: dict[Scope, AbstractContextManager[None]] = {Scope.NODE: namespaces.at_home()}
        if self._inside is not None:
            places[Scope.VM] = nullcontext()
        looked = ((scope, LOADED.look(self.vm, scope, place)) for scope, place in places.items())
        return {scope: digest for scope, digest in looked if digest is not None}

    def delete_links(self) -> None:
        """Delete all host sides of the VM with one message: each alone would wait for an RCU grace period."""
        try:
            self.outside.do(messages.DELETE_LINK, 0, messages.link(group=vm_group(self.vm)))
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise

    def index(self, name: str, *, inside: bool) -> int:
        """Index of a link in the VM's namespace or in the agent's. TransientError: it went."""
        if (inside, name) not in self._indices:
            self._indices[inside, name] = self._link(name, inside=inside).index
        return self._indices[inside, name]

    def mtu(self, name: str) -> int:
        """MTU of a link of the node. TransientError: it went."""
        return self._link(name, inside=False).number(IFLA_MTU)

    def _link(self, name: str, *, inside: bool) -> Link:
        found = (self.inside if inside else self.outside).link(name=name)
        if found is None:
            raise TransientError(f"link {name} vanished from {self.namespace if inside else 'the node'}; try again")
        return found

    def forget_indices(self) -> None:
        """A link went: another may get its name with a new index."""
        self._indices.clear()
