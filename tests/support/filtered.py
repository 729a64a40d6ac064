"""A node and one VM on it, with rules loaded as the agent loads them: for tests of the rules alone."""

import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Self, TypeVar

from tests.support import processes
from tests.support.probing import inside

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.firewall import kernel, shared
from onedock.nodeside.agent.firewall.host import part
from onedock.nodeside.agent.firewall.ruleset import Ruleset, host_ruleset, vm_ruleset
from onedock.reconcilers.model import Network, Nic, VmId

T = TypeVar("T")

PEER_MAC = "02:00:00:00:00:99"
PEER4, PEER6 = "10.9.0.2", "fd09::2"


class FilteredVm:
    """``with FilteredVm(number) as vm:`` — the VM's ``eth0`` and a neighbour's ``peer`` hang on a bridge of the node.

    All three have a namespace of their own; the neighbour has ``PEER4`` and ``PEER6``, and no rules.
    """

    def __init__(self, number: int) -> None:
        self.number = VmId(number)
        self.vm, self.node, self.peer = (f"{processes.RUN}-{name}{number}" for name in ("vm", "node", "peer"))
        self.mac = f"02:00:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
        self.host_name = f"one-{number}-0"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # Each CPU has a queue of its own for frames: those of one CPU arrive in the order in which they are sent.
            stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            for namespace in (self.vm, self.node, self.peer):
                ip("netns", "add", namespace)
                stack.callback(ip, "netns", "del", namespace)
                ip("-n", namespace, "link", "set", "lo", "up")
            inside(self.node, partial(namespaces.sysctl, "ipv6/conf/default/disable_ipv6", "1"))
            ip("-n", self.node, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
            ip("-n", self.node, "link", "set", "br0", "up")
            self._plug(self.host_name, self.vm, "eth0", self.mac)
            self._plug("peer", self.peer, "peer", PEER_MAC)
            for address in (f"{PEER4}/24", f"{PEER6}/64"):
                ip("-n", self.peer, "addr", "add", address, "dev", "peer", *(["nodad"] if ":" in address else []))
            # A port forwards only once the kernel has seen to it that both ends are up.
            processes.wait_until(self._forwards, within=10, what="the bridge forwards")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _plug(self, port: str, namespace: str, name: str, mac: str) -> None:
        veth = ["link", "add", port, "type", "veth", "peer", "name", name, "address", mac, "netns", namespace]
        ip("-n", self.node, *veth)
        ip("-n", self.node, "link", "set", port, "master", "br0", "up")
        ip("-n", namespace, "link", "set", name, "up")

    def _forwards(self) -> bool:
        shown = subprocess.run(
            ["ip", "-n", self.node, "-details", "link", "show", "type", "veth"],
            check=True,
            capture_output=True,
            text=True,
        )
        return shown.stdout.count("state forwarding") == 2

    def nic(self, **changes: object) -> Nic:
        """The VM's NIC; what is changed must not be its names."""
        fields = {"addresses": ("10.9.0.1/24", "fd09::1/64"), **changes}
        return Nic(0, "eth0", self.host_name, self.mac, "br0", **fields)  # type: ignore[arg-type]

    def configure(self, nic: Nic) -> None:
        """Give the VM the addresses and load the rules, in both places."""
        have = subprocess.run(
            ["ip", "-n", self.vm, "addr", "show", "dev", "eth0"], check=True, capture_output=True, text=True
        ).stdout
        for address in nic.addresses:
            if address not in have:
                ip("-n", self.vm, "addr", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        groups, filters = self.rulesets(nic)
        tables = (("inet", "onedock"), ("netdev", "onedock"))
        self.in_vm(partial(kernel.unload, tables) if groups is None else partial(kernel.load, groups))
        self.at_node(
            partial(shared.unload, part(self.number, [nic])) if filters is None else partial(shared.load, filters)
        )

    def rulesets(self, nic: Nic) -> tuple[Ruleset | None, Ruleset | None]:
        """Of the VM's namespace and of the node's."""
        network = Network(self.number, (nic,))
        return vm_ruleset(network), host_ruleset(network)

    def hits(self) -> dict[str, int]:
        """Packets by counter, ``in.dropped``, ``mac``…, all rules of a group together."""
        found = inside(self.vm, partial(kernel.counters, (("inet", "onedock"), ("netdev", "onedock"))))
        found += inside(self.node, partial(shared.counters, self.number, [self.nic()]))
        summed = Counter[str]()
        for hit in found:
            summed[hit.rule] += hit.packets
        return dict(summed)

    def route_everything(self) -> None:
        """Send all packets for elsewhere to the neighbour, without asking who that is."""
        for family, address, to in (("-4", PEER4, "default"), ("-6", PEER6, "default")):
            ip(family, "-n", self.vm, "route", "add", to, "via", address)
            ip(family, "-n", self.vm, "neigh", "add", address, "lladdr", PEER_MAC, "dev", "eth0")

    def silence_neighbour(self) -> None:
        """The VM hears nothing from the neighbour by itself, which reports its groups now and then."""
        self.on_node("link", "set", self.host_name, "type", "bridge_slave", "mcast_flood", "off")
        self.beside(partial(namespaces.sysctl, "ipv6/conf/peer/disable_ipv6", "1"))

    def on_node(self, *argv: str) -> None:
        """Run ``ip`` in the node's namespace."""
        ip("-n", self.node, *argv)

    def nft_at_node(self, command: str) -> None:
        """Change the node's rules by hand."""
        _run("ip", "netns", "exec", self.node, "nft", command)

    def at_node(self, function: Callable[[], T]) -> T:
        """Call it with the thread in the node's namespace."""
        return inside(self.node, function)

    def in_vm(self, function: Callable[[], T]) -> T:
        """Call it with the thread in the VM's namespace."""
        return inside(self.vm, function)

    def beside(self, function: Callable[[], T]) -> T:
        """Call it with the thread in the neighbour's namespace."""
        return inside(self.peer, function)

    def packet_socket(self, *, peer: bool = False, kind: int = 3) -> socket.socket:
        """A raw socket on the VM's NIC, or the neighbour's, for frames of one ethertype; 3: of all."""
        return (self.beside if peer else self.in_vm)(partial(_packet_socket, "peer" if peer else "eth0", kind))


def frames(opened: socket.socket, seconds: float) -> Iterator[bytes]:
    """What comes in within this time."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        opened.settimeout(left)
        try:
            frame, (_, _, kind, *_) = opened.recvfrom(65535)
        except TimeoutError:
            return
        if kind != socket.PACKET_OUTGOING:
            yield frame


def _packet_socket(name: str, kind: int) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
    opened.bind((name, kind))
    return opened


def ip(*argv: str) -> None:
    """Run ``ip`` in the namespace where the thread is."""
    _run("ip", *argv)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)
