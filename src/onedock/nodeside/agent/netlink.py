"""One VM's network in the kernel: observe it, make it so, remove it. Synchronous, for threads.

Netlink itself stops at ``kernel``, ``reading`` and ``apply``.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from pyroute2 import IPRoute

from onedock.nodeside.agent import namespaces, ovs, reading
from onedock.nodeside.agent.apply import apply
from onedock.nodeside.agent.firewall.loaded import LOADED
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.ovs_rows import KIND, MASTER
from onedock.nodeside.agent.plan import is_our_bridge, is_our_uplink, is_unused, plan, plan_released_vlans
from onedock.nodeside.agent.rtnetlink.socket import Rtnetlink
from onedock.nodeside.agent.seen import Seen
from onedock.nodeside.agent.steps import Scope, Step
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Network, VmId, namespace_name
from onedock.reconcilers.nic_parts import Switch, TrunkPort

_ROUNDS = 4
"""The last one only looks, unless others interfere."""


def observe(vm: VmId, known: Network | None) -> Seen:
    """Read what is there of ``vm``; ``known`` names the bridges and devices to look at besides."""
    with Kernel(vm) as kernel:
        return kernel.read(known)


def ensure(network: Network, changed: Callable[[tuple[Step, ...]], None], earlier: Network | None = None) -> Seen:
    """Make it so and return what is there then. Raises TerminalError (see ``plan``) or TransientError.

    ``changed`` is told the steps of each round, before the next one looks at what became of them; ``earlier`` is what
    was wanted until now.
    """
    if any(nic.switch is Switch.OPENVSWITCH for nic in network.nics):
        ovs.require()
    with Kernel(network.vm) as kernel:
        trouble: TransientError | None = None
        for _ in range(_ROUNDS):
            seen = kernel.read(network, earlier)
            todo = plan(network, seen, earlier)
            if not todo:
                return seen
            try:
                for step in todo:
                    apply(kernel, step)
            except ovs.SilentSwitchError:
                raise
            except TransientError as error:
                # A link went in between, as those of a deleted namespace do, some time after it: look again.
                trouble = error
            changed(todo)
    raise trouble or TransientError(f"network of VM {network.vm} does not settle: something on the node undoes it")


def remove(vm: VmId, earlier: Network) -> None:
    """Remove all veths of the VM, then its namespace. Absent is success; ``earlier`` is what was wanted until now."""
    with Kernel(vm) as kernel:
        kernel.delete_links()
        with namespaces.at_home():
            LOADED.drop(vm, Scope.NODE)
        namespaces.remove(namespace_name(vm))
        LOADED.forget(vm)
    if any(nic.switch is Switch.OPENVSWITCH or nic.bridge == MASTER for nic in earlier.nics):
        ovs.remove_ports(vm)


def release_vlans(vm: VmId, trunks: Mapping[str, Collection[TrunkPort]], ways_out: frozenset[str]) -> tuple[Step, ...]:
    """Of bridges, let no VLANs pass ``ways_out`` but those of the remaining ``trunks``; return what was done."""
    done: list[Step] = []
    with Kernel(vm) as kernel:
        for name, remaining in trunks.items():
            if found := reading.read_filtering(kernel.outside, name, ways_out):
                done.extend(plan_released_vlans(*found, remaining))
        for step in done:
            apply(kernel, step)
    return tuple(done)


def remove_shared(bridges: Iterable[str], ways_out: frozenset[str]) -> tuple[str, ...]:
    """Of bridges that have no ports but ``ways_out`` and uplinks of ours, remove what is ours; return which."""
    namespaces.enter_home()
    removed: list[str] = []
    with Rtnetlink() as host, IPRoute() as change:
        for name in bridges:
            bridge = reading.host_link(host, name)
            if bridge is not None and bridge.kind == KIND:
                removed.extend(_remove_switch(host, change, name, ways_out))
            if bridge is None or bridge.kind != "bridge":
                continue
            ports = reading.ports(host, bridge)
            if is_unused(ports, ways_out):
                shared = [port for port in ports if is_our_uplink(port)] + [bridge] * is_our_bridge(bridge)
                for link in shared:
                    change.link("del", index=link.index)
                    removed.append(link.name)
    return tuple(removed)


def _remove_switch(host: Rtnetlink, change: IPRoute, name: str, phydevs: frozenset[str]) -> Iterator[str]:
    ports, gone = ovs.remove_unused(name, phydevs)
    for port in ports:
        link = reading.host_link(host, port.name)
        if link is not None and is_our_uplink(link):
            change.link("del", index=link.index)
            yield link.name
    if gone:
        yield name
