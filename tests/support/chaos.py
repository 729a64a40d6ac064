"""Blows against the networks of two nodes: somebody with root's rights and no plan, who can be repeated by a seed."""

import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.support.oracle import Placed, World

from onedock.reconcilers.model import Nic, namespace_name


@dataclass(frozen=True, slots=True)
class Blow:
    """One command in one namespace. That it fails, because of an earlier blow, is as good."""

    namespace: str
    argv: tuple[str, ...]

    def strike(self) -> None:
        where = [] if self.argv[:3] == ("ip", "netns", "delete") else ["nsenter", f"--net=/run/netns/{self.namespace}"]
        subprocess.run([*where, *self.argv], check=False, capture_output=True, timeout=30)

    def __str__(self) -> str:
        return f"{self.namespace}: {' '.join(self.argv)}"


class Chaos:
    """Random blows. The same seed, world and node names give the same ones."""

    def __init__(self, seed: int, world: World, nodes: Sequence[str]) -> None:
        self._random = random.Random(seed)
        self._world = world
        self._nodes = nodes
        self._kinds: tuple[Callable[[Placed, Nic], Blow], ...] = (
            self._link_of_node,
            self._link_of_vm,
            self._address,
            self._route,
            self._bridge,
            self._uplink,
            self._rules,
            self._qdisc,
            self._name,
        )

    def blows(self, count: int) -> Iterator[Blow]:
        """As many, each against a NIC of a VM."""
        for _ in range(count):
            placed = self._random.choice(self._world.vms)
            nic = self._random.choice(placed.network.nics)
            yield self._random.choice(self._kinds)(placed, nic)

    def number(self, first: int, last: int) -> int:
        """A random number, both ends included."""
        return self._random.randint(first, last)

    def _in_vm(self, placed: Placed, command: str) -> Blow:
        return Blow(namespace_name(placed.vm), tuple(command.split()))

    def _on_node(self, placed: Placed, command: str) -> Blow:
        return Blow(self._nodes[placed.node], tuple(command.split()))

    def _link_of_node(self, placed: Placed, nic: Nic) -> Blow:
        change = self._random.choice(["delete {0}", "set {0} down", "set {0} nomaster", "set {0} mtu 1300"])
        return self._on_node(placed, f"ip link {change.format(nic.host_name)}")

    def _link_of_vm(self, placed: Placed, nic: Nic) -> Blow:
        changes = ["delete {0}", "set {0} down", "set {0} address 02:00:00:00:00:99", "set lo down"]
        return self._in_vm(placed, f"ip link {self._random.choice(changes).format(nic.name)}")

    def _address(self, placed: Placed, nic: Nic) -> Blow:
        changes = ["flush dev {0}", "add 10.99.0.1/24 dev {0}", *(f"delete {one} dev {{0}}" for one in nic.addresses)]
        return self._in_vm(placed, f"ip address {self._random.choice(changes).format(nic.name)}")

    def _route(self, placed: Placed, nic: Nic) -> Blow:
        changes = ["route flush dev {0}", "-6 route flush dev {0}", "route delete default", "-6 route delete default"]
        return self._in_vm(placed, f"ip {self._random.choice(changes).format(nic.name)}")

    def _bridge(self, placed: Placed, nic: Nic) -> Blow:
        change = self._random.choice(["delete {0}", "set {0} down"])
        return self._on_node(placed, f"ip link {change.format(nic.bridge)}")

    def _uplink(self, placed: Placed, nic: Nic) -> Blow:
        if nic.uplink is not None:
            change = self._random.choice(["delete {0}", "set {0} down", "set {0} nomaster"])
            return self._on_node(placed, f"ip link {change.format(nic.uplink.name)}")
        if nic.phydev is not None:
            change = self._random.choice(["set {0} down", "set {0} nomaster"])
            return self._on_node(placed, f"ip link {change.format(nic.phydev)}")
        return self._bridge(placed, nic)

    def _rules(self, placed: Placed, nic: Nic) -> Blow:
        everything = "nft flush ruleset"
        if self._random.random() < 0.5:
            return self._on_node(placed, everything)
        return self._in_vm(placed, everything)

    def _qdisc(self, placed: Placed, nic: Nic) -> Blow:
        if self._random.random() < 0.5:
            return self._on_node(placed, f"tc qdisc delete dev {nic.host_name} root")
        return self._in_vm(placed, f"tc qdisc delete dev {nic.name} root")

    def _name(self, placed: Placed, nic: Nic) -> Blow:
        return self._in_vm(placed, f"ip netns delete {namespace_name(placed.vm)}")
