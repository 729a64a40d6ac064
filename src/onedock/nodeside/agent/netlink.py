"""One VM's network in the kernel: observe it, make it so, remove it. Synchronous, for threads.

pyroute2 stops here and in ``reading``. Its synchronous classes must not be used inside an event loop, and its
``netns=`` forks; so the thread itself enters the VM's namespace, and keeps a socket open in the agent's own.
"""

import errno
import os
from collections.abc import Iterable
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import namespaces, reading, steps
from onedock.nodeside.agent.plan import is_disposable, plan
from onedock.nodeside.agent.seen import BRIDGE_GROUP, Seen, vm_group
from onedock.reconcilers.errors import TerminalError, TransientError
from onedock.reconcilers.model import Network, VmId, namespace_name

_IFA_F_NODAD = 0x02
_RTNH_F_ONLINK = 4
_RTPROT_STATIC = 4
_FAMILY = {False: 2, True: 10}
_ROUNDS = 4
"""The last one only looks, unless others interfere."""

_REFUSALS = frozenset(
    {
        errno.EINVAL,
        errno.EADDRNOTAVAIL,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ERANGE,
        errno.ELOOP,
    }
)
"""What the kernel answers to a request that can never work; all else may be a race with others."""


def observe(vm: VmId, known: Network | None) -> Seen:
    """Read what is there of ``vm``; ``known`` names the bridges and devices to look at besides."""
    with _Kernel(vm) as kernel:
        return kernel.read(known)


def ensure(network: Network) -> Seen:
    """Make it so and return what is there then. Raises TerminalError (see ``plan``) or TransientError."""
    with _Kernel(network.vm) as kernel:
        trouble: TransientError | None = None
        for _ in range(_ROUNDS):
            seen = kernel.read(network)
            todo = plan(network, seen)
            if not todo:
                return seen
            try:
                for step in todo:
                    kernel.apply(step)
            except TransientError as error:
                # A link went in between, as those of a deleted namespace do, some time after it: look again.
                trouble = error
    raise trouble or TransientError(f"network of VM {network.vm} does not settle: something on the node undoes it")


def remove(vm: VmId) -> None:
    """Remove all veths of the VM, then its namespace. Absent is success."""
    with _Kernel(vm) as kernel:
        kernel.delete_links()
        namespaces.remove(namespace_name(vm))


def remove_bridges(names: Iterable[str], phydevs: frozenset[str]) -> tuple[str, ...]:
    """Remove those bridges that are ours and have no port but ``phydevs``; return which."""
    namespaces.enter_home()
    removed = []
    with IPRoute() as host:
        for name in names:
            bridge = reading.host_link(host, name)
            if bridge is not None and is_disposable(bridge, reading.ports(host, bridge), phydevs):
                host.link("del", index=bridge.index)
                removed.append(name)
    return tuple(removed)


class _Kernel:
    """Netlink sockets for one operation: in the agent's namespace, and in the VM's once it exists."""

    def __init__(self, vm: VmId) -> None:
        self._vm = vm
        self._name = namespace_name(vm)
        self._inner: IPRoute | None = None
        self._indices: dict[tuple[IPRoute, str], int] = {}

    def __enter__(self) -> Self:
        namespaces.enter_home()
        self._host = IPRoute()
        try:
            if namespaces.exists(self._name):
                namespaces.enter(self._name)
                self._inner = IPRoute()
        except BaseException:
            self._host.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._inner is not None:
            self._inner.close()
        self._host.close()

    def read(self, known: Network | None) -> Seen:
        """What is there now."""
        seen = reading.read(self._host, self._inner, known)
        self._indices = {(self._host, name): link.index for name, link in seen.host.items()}
        return seen

    def delete_links(self) -> None:
        """Delete all host sides of the VM with one message: each alone would wait for an RCU grace period."""
        try:
            self._host.link("del", group=vm_group(self._vm))
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise

    def apply(self, step: steps.Step) -> None:
        """Do one step. TerminalError: the kernel refuses for good; TransientError: the world changed."""
        try:
            self._apply(step)
        except NetlinkError as error:
            reason = os.strerror(error.code) if error.code else str(error)
            if error.code in _REFUSALS:
                raise TerminalError(f"the node's kernel refuses {step}: {reason}; correct the NIC") from error
            raise TransientError(f"{step} failed on the node: {reason}; it is tried again") from error

    def _apply(self, step: steps.Step) -> None:
        match step:
            case steps.CreateNamespace():
                # A bare file is left when an agent was killed between making and mounting it.
                namespaces.remove(self._name)
                namespaces.create_and_enter(self._name)
                self._inner = IPRoute()
            case steps.RaiseLoopback():
                self._inside("set", index=reading.LOOPBACK, state="up")
            case steps.CreateBridge(name, mtu):
                optional = {} if mtu is None else {"mtu": mtu}
                self._host.link("add", ifname=name, kind="bridge", group=BRIDGE_GROUP, br_stp_state=0, **optional)
                self._silence(name)
                self._host.link("set", ifname=name, state="up")
            case steps.CreateVeth():
                self._create_veth(step)
            case steps.DeleteHostLink(name):
                self._indices.clear()
                self._host.link("del", ifname=name)
            case steps.Label(name, alias):
                self._host.link("set", ifname=name, ifalias=alias)
            case steps.PlugIn(name, bridge):
                self._host.link("set", ifname=name, master=self._index(self._host, bridge))
            case steps.RaiseHostLink(name):
                self._host.link("set", ifname=name, state="up")
            case steps.SetHostMtu(name, mtu):
                self._host.link("set", ifname=name, mtu=mtu)
            case steps.SetMac(name, mac):
                self._inside("set", ifname=name, address=mac)
            case steps.SetMtu(name, mtu):
                self._inside("set", ifname=name, mtu=mtu)
            case steps.RemoveAddress(name, address):
                self._address("del", name, address)
            case steps.AddAddress(name, address):
                self._address("add", name, address)
            case steps.RaiseNic(name):
                self._inside("set", ifname=name, state="up")
            case steps.RemoveGateway(name, gateway, metric):
                self._route("del", name, gateway, metric, flags=0)
            case steps.AddGateway(name, gateway, metric, onlink):
                self._route("add", name, gateway, metric, flags=_RTNH_F_ONLINK if onlink else 0)

    def _create_veth(self, step: steps.CreateVeth) -> None:
        optional = {} if step.mtu is None else {"mtu": step.mtu}
        # A bridge takes the lowest MAC of its ports; a high one on our side never changes it for others.
        high = "fa" if step.mac.startswith("fe") else "fe"
        namespace = os.open(namespaces.path(self._name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._host.link(
                "add",
                ifname=step.host_name,
                kind="veth",
                group=vm_group(step.vm),
                master=self._index(self._host, step.bridge),
                address=high + step.mac[2:],
                state="up",
                # Marked up in this message, the peer would be opened before its other side exists (ENOTCONN).
                peer={"ifname": step.name, "address": step.mac, "net_ns_fd": namespace, **optional},
                **optional,
            )
        finally:
            os.close(namespace)

    def _silence(self, bridge: str) -> None:
        """The node is no IPv6 neighbour of its VMs, and takes no router advertisements from them."""
        namespaces.enter_home()
        namespaces.sysctl(f"ipv6/conf/{bridge}/disable_ipv6", "1")
        namespaces.enter(self._name)

    def _address(self, command: str, name: str, cidr: str) -> None:
        address, _, prefix = cidr.partition("/")
        flags = {"flags": _IFA_F_NODAD} if ":" in address and command == "add" else {}
        index = self._index(self._required, name)
        self._required.addr(command, index=index, address=address, prefixlen=int(prefix), **flags)

    def _route(self, command: str, name: str, gateway: str, metric: int, *, flags: int) -> None:
        self._required.route(
            command,
            family=_FAMILY[":" in gateway],
            dst="default",
            gateway=gateway,
            oif=self._index(self._required, name),
            priority=metric,
            proto=_RTPROT_STATIC,
            flags=flags,
        )

    def _inside(self, command: str, **what: Any) -> None:
        self._required.link(command, **what)

    @property
    def _required(self) -> IPRoute:
        if self._inner is None:
            raise TransientError(f"namespace {self._name} vanished; try again")
        return self._inner

    def _index(self, socket: IPRoute, name: str) -> int:
        """Index of a link. pyroute2 would send a request without one as it is; here that is an error."""
        if (socket, name) not in self._indices:
            self._indices[socket, name] = socket.link("get", ifname=name)[0]["index"]
        return self._indices[socket, name]
