"""The order of the steps: the node's links, then every NIC plugged, then every NIC raised."""

from collections.abc import Iterator

from onedock.nodeside.agent.plan.bridge import plan_bridge, plan_phydev
from onedock.nodeside.agent.plan.nic import as_created, find_pair, plan_addresses, plan_veth
from onedock.nodeside.agent.plan.routes import plan_routes
from onedock.nodeside.agent.seen import Seen, vm_group
from onedock.nodeside.agent.steps import CreateNamespace, DeleteHostLink, RaiseLoopback, RaiseNic, Step
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network


def plan(wanted: Network, seen: Seen) -> tuple[Step, ...]:
    """The steps, in order, that turn what was seen into what is wanted; none when nothing differs.

    Raises TerminalError when a link that is not ours is in the way, or a physical device cannot be used.
    """
    pairs = {nic.index: find_pair(wanted.vm, nic, seen) for nic in wanted.nics}
    inner = {nic.index: pair[1] if (pair := pairs[nic.index]) else as_created(nic) for nic in wanted.nics}
    steps: list[Step] = [] if seen.namespace else [CreateNamespace()]
    if not seen.loopback_up:
        steps.append(RaiseLoopback())
    steps.extend(_plan_node(wanted, seen))
    steps.extend(_plan_deletions(wanted, seen, {pair[0].name for pair in pairs.values() if pair is not None}))
    for nic in wanted.nics:
        steps.extend(plan_veth(wanted.vm, nic, seen, pairs[nic.index]))
        steps.extend(plan_addresses(nic, inner[nic.index]))
    for nic in wanted.nics:
        if not inner[nic.index].up:
            steps.append(RaiseNic(nic.name))
        steps.extend(plan_routes(nic, inner[nic.index]))
    return tuple(steps)


def _plan_node(wanted: Network, seen: Seen) -> tuple[Step, ...]:
    """What the NICs are plugged into, each once."""
    steps: dict[Step, None] = {}
    bridges: set[str] = set()
    for nic in wanted.nics:
        if nic.bridge not in bridges:
            bridges.add(nic.bridge)
            steps.update(dict.fromkeys(plan_bridge(nic, seen)))
        if nic.phydev is not None:
            steps.update(dict.fromkeys(plan_phydev(nic.phydev, nic.bridge, seen)))
    return tuple(steps)


def _plan_deletions(wanted: Network, seen: Seen, kept: set[str]) -> Iterator[Step]:
    """Our veths that are no wanted NIC, or stand under a wanted name without being that NIC."""
    ours = {host.name for inner in seen.inner if (host := seen.host_side(inner, wanted.vm)) is not None}
    for nic in wanted.nics:
        host = seen.host.get(nic.host_name)
        if host is not None and host.group != vm_group(wanted.vm):
            raise TerminalError(
                f"link {nic.host_name} exists on this node and is not ONEDock's;"
                f" remove or rename it, it is needed for NIC {nic.index} of VM {wanted.vm}"
            )
        if host is not None:
            ours.add(host.name)
    names = {nic.name for nic in wanted.nics}
    for inner in seen.inner:
        if inner.name in names and seen.host_side(inner, wanted.vm) is None:
            raise TerminalError(
                f"link {inner.name} inside VM {wanted.vm} is not ONEDock's but has a NIC's name; remove it"
            )
    for name in sorted(ours - kept):
        yield DeleteHostLink(name)
