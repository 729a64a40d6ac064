"""Who changes the networks of VMs, told by kernel and switch: nothing is polled, a notice only names VMs to look at.

Sockets are opened in threads that wander between namespaces, and read in the event loop. Besides them, each VM has a
descriptor of its namespace here: it lives on when its name is deleted, and can be given its name again.
"""

import asyncio
import os
import select
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.firewall.host import TABLE, owner
from onedock.nodeside.agent.healing import needs
from onedock.nodeside.agent.healing.notices import Notice
from onedock.nodeside.agent.healing.subscription import Subscription, sockets_of_node, sockets_of_vm
from onedock.nodeside.agent.healing.switch import SwitchWatch
from onedock.nodeside.heals import Cause
from onedock.reconcilers.model import Network, VmId, namespace_name

_TABLE = TABLE[1]
"""Of nftables, in a VM's namespace its own, outside the one that all VMs share."""
_MOUNTS_S = 0.2
"""An engine mounts and unmounts in bursts, and all names are looked at after each."""


class Watch:
    """Of all VMs of a node. Made in the event loop, which also calls everything but ``settle``."""

    def __init__(self, due: Callable[[VmId, Cause, bool], None]) -> None:
        """``due`` is told which VM to look at, why, and whether others are for the same reason; in whatever thread."""
        self._due = due
        self._loop = asyncio.get_running_loop()
        self._users: dict[str, set[VmId]] = defaultdict(set)
        self._names: dict[VmId, frozenset[str]] = {}
        self._addresses: dict[VmId, frozenset[tuple[str, bytes, int]]] = {}
        self._listening: set[VmId] = set()
        self._vms: dict[VmId, _Watched] = {}
        self._touched: set[VmId] = set()
        self._switch = SwitchWatch(due)
        self._host = Subscription(self._on_node, sockets_of_node())
        self._host.read()  # all links as they are now: no VM depends on them yet, so none is due
        self._host.start(self._loop)
        self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        # The file is always readable; only an epoll of its own can wait for POLLPRI, and be waited for in turn.
        self._epoll = select.epoll()
        self._epoll.register(self._mounts, select.EPOLLPRI)
        self._loop.add_reader(self._epoll.fileno(), self._on_mounts)
        self._look_at_names: asyncio.TimerHandle | None = None

    def depend(self, vm: VmId, network: Network) -> None:
        """From now on the VM needs the links and ports of the node that this network has, and no others."""
        self._switch.depend(vm, needs.switch_ports(network))
        self._addresses[vm] = needs.addresses(network)
        self._listening.discard(vm)
        if needs.routers(network):
            self._listening.add(vm)
        for name in self._names.pop(vm, frozenset()):
            self._users[name].discard(vm)
            if not self._users[name]:
                del self._users[name]
        if wanted := frozenset(needs.links(network)):
            self._names[vm] = wanted
            for name in wanted:
                self._users[name].add(vm)

    def settle(self, vm: VmId) -> bool:
        """Hear everything that was said until now, of a new namespace from now on.

        Call this before looking at what is there: what is due after it was said later. The calling thread must
        belong to namespaces; it stands in that of the VM afterwards, if there is one. Returns whether the namespace
        had lost its name, which it has again.
        """
        name = namespace_name(vm)
        watched = self._vms.get(vm)
        nameless = watched is not None and not namespaces.is_at(name, watched.identity)
        if watched is not None and nameless:
            namespaces.put_back(name, watched.namespace)
        if watched is None and namespaces.exists(name):
            watched = self._vms[vm] = self._listen(vm)
        self._host.read()
        if watched is not None:
            watched.subscription.read()
        return nameless

    def links(self) -> tuple[Notice, ...]:
        """All links of the node as far as they were heard of, in their last state."""
        return self._host.links()

    def touched_filters(self) -> frozenset[VmId]:
        """VMs whose filters on the node others have changed since this was asked the last time; in whatever thread."""
        touched, self._touched = self._touched, set()
        return frozenset(touched)

    def forget(self, vm: VmId) -> None:
        """Hear no more of a VM, and let go of its namespace."""
        self.depend(vm, Network(vm))
        del self._addresses[vm]
        if watched := self._vms.pop(vm, None):
            watched.close(self._loop)

    async def close(self) -> None:
        """Let go of everything."""
        await self._switch.close()
        for vm in tuple(self._vms):
            self.forget(vm)
        if self._look_at_names is not None:
            self._look_at_names.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        os.close(self._mounts)
        self._host.close(self._loop)

    def _listen(self, vm: VmId) -> "_Watched":
        namespaces.enter(namespace_name(vm))
        subscription = Subscription(partial(self._in_vm, vm), sockets_of_vm())
        self._loop.call_soon_threadsafe(subscription.start, self._loop)
        descriptor = namespaces.current()
        return _Watched(subscription, descriptor, namespaces.identity(descriptor))

    def _in_vm(self, vm: VmId, notice: Notice, name: str) -> None:
        if notice.cause is Cause.ADDRESS and not notice.gone and (name, *notice.state) in self._addresses.get(vm, ()):
            return  # the kernel says so of an IPv6 address some time after it was given
        if notice.cause is Cause.ADVERTISED and vm not in self._listening:
            self._due(vm, Cause.ADDRESS, False)
        elif notice.cause is not Cause.FILTER or notice.name == _TABLE:
            self._due(vm, notice.cause, False)

    def _on_node(self, notice: Notice, name: str) -> None:
        if notice.cause is Cause.OVERRUN:
            concerned = tuple(self._names)
            self._touched.update(concerned)
        elif notice.cause is Cause.FILTER:
            concerned = self._filtered(notice) if notice.name == _TABLE else ()
            self._touched.update(concerned)
        else:
            concerned = tuple(self._users.get(name, ()))
        for vm in concerned:
            self._due(vm, notice.cause, len(concerned) > 1)

    def _filtered(self, notice: Notice) -> tuple[VmId, ...]:
        """Whose filters it is about. A table comes and goes with what is in it, which has messages of its own."""
        if not notice.part:
            return tuple(self._names) if notice.state else ()
        owned = owner(notice.part)
        return () if owned is None else (owned[0],)

    def _on_mounts(self) -> None:
        self._epoll.poll(0)
        if self._look_at_names is None:
            self._look_at_names = self._loop.call_later(_MOUNTS_S, self._check_names)

    def _check_names(self) -> None:
        self._look_at_names = None
        for vm, watched in tuple(self._vms.items()):
            if not namespaces.is_at(namespace_name(vm), watched.identity):
                self._due(vm, Cause.NAMESPACE, False)


@dataclass(frozen=True, slots=True)
class _Watched:
    subscription: Subscription
    namespace: int
    """A descriptor of it."""
    identity: namespaces.Identity

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        self.subscription.close(loop)
        os.close(self.namespace)
