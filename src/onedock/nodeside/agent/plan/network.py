"""The order of the steps: the node's links, then every NIC plugged, then every NIC raised."""

from collections.abc import Iterator
from itertools import chain

from onedock.nodeside.agent.plan.bridge import plan_bridge, plan_phydev, plan_released
from onedock.nodeside.agent.plan.methods import plan_ipv6, plan_link_local, plan_unheard
from onedock.nodeside.agent.plan.nic import Pair, as_created, find_pair, plan_addresses, plan_veth
from onedock.nodeside.agent.plan.overlap import Sharing, plan_arp, plan_source_routes, plan_source_rules, sharing
from onedock.nodeside.agent.plan.ovs import plan_switch, plan_switch_port
from onedock.nodeside.agent.plan.routes import plan_routes
from onedock.nodeside.agent.plan.rules import plan_rules
from onedock.nodeside.agent.plan.shaping import plan_limits
from onedock.nodeside.agent.plan.trunk import plan_trunk_bridge, plan_trunk_port
from onedock.nodeside.agent.plan.uplink import plan_uplink
from onedock.nodeside.agent.seen import InnerLink, Seen, vm_group
from onedock.nodeside.agent.steps import CreateNamespace, DeleteHostLink, RaiseLoopback, RaiseNic, Step
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic
from onedock.reconcilers.nic_parts import Method, Switch


def plan(wanted: Network, seen: Seen, earlier: Network | None = None) -> tuple[Step, ...]:
    """The steps, in order, that turn what was seen into what is wanted; none when nothing differs.

    ``earlier`` is what was wanted until now, for what cannot be told from its looks to be the VM's.
    Raises TerminalError when a link that is not ours is in the way, or a physical device cannot be used.
    """
    pairs = {nic.index: find_pair(wanted.vm, nic, seen) for nic in wanted.nics}
    # What is superseded comes last in ``earlier`` and knows nothing of the VM's inside: the first of an index counts.
    formers = {nic.index: nic for nic in reversed(earlier.nics)} if earlier is not None else {}
    inners = {nic.index: _inner(nic, pairs[nic.index], seen) for nic in wanted.nics}
    shared = sharing(wanted, inners)
    steps: list[Step] = [] if seen.namespace else [CreateNamespace()]
    if not seen.loopback_up:
        steps.append(RaiseLoopback())
    if earlier is not None:
        steps.extend(plan_released(wanted, earlier, seen))
    steps.extend(plan_switch(wanted, seen))
    steps.extend(_plan_node(wanted, seen))
    steps.extend(_plan_deletions(wanted, seen, {pair[0].name for pair in pairs.values() if pair is not None}))
    for nic in wanted.nics:
        steps.extend(_plan_plugged(wanted, nic, seen, pairs[nic.index], formers.get(nic.index), shared))
    steps.extend(plan_rules(wanted, seen, is_new=None in pairs.values()))
    for nic in wanted.nics:
        inner = inners[nic.index]
        if not inner.up:
            steps.append(RaiseNic(nic.name))
        steps.extend(plan_link_local(nic, inner))
        steps.extend(plan_routes(nic, inner, formers.get(nic.index)))
        steps.extend(plan_source_routes(nic, inner, shared))
    steps.extend(plan_source_rules(wanted, seen, inners, shared))
    return tuple(steps)


def _inner(nic: Nic, pair: Pair | None, seen: Seen) -> InnerLink:
    return pair[1] if pair is not None else as_created(nic, seen)


def _plan_plugged(
    wanted: Network, nic: Nic, seen: Seen, pair: Pair | None, former: Nic | None, shared: Sharing
) -> Iterator[Step]:
    """All of a NIC that may be there while it is still down: nothing passes that is not limited and filtered."""
    host, inner = pair[0] if pair is not None else None, _inner(nic, pair, seen)
    yield from plan_veth(wanted.vm, nic, seen, pair, former)
    yield from plan_switch_port(wanted.vm, nic, seen, host)
    yield from plan_trunk_port(nic, host, seen)
    ipv6, addresses = plan_ipv6(nic, inner, former), plan_addresses(nic, inner, former)
    # What is switched off has lost its addresses already, what is switched on can only then have some.
    yield from chain(addresses, ipv6) if nic.method6 is Method.DISABLE else chain(ipv6, addresses)
    yield from plan_unheard(nic, inner, former)
    yield from plan_arp(wanted, nic, inner, shared)
    yield from plan_limits(nic, host, inner)


def _plan_node(wanted: Network, seen: Seen) -> tuple[Step, ...]:
    """What the NICs are plugged into, each once."""
    steps: dict[Step, None] = {}
    bridges: set[str] = set()
    for nic in wanted.nics:
        if nic.switch is not Switch.LINUX:
            continue
        if nic.bridge not in bridges:
            bridges.add(nic.bridge)
            steps.update(dict.fromkeys(plan_bridge(nic, seen)))
        if nic.phydev is not None:
            steps.update(dict.fromkeys(plan_phydev(nic.phydev, nic.bridge, seen)))
        if nic.uplink is not None:
            steps.update(dict.fromkeys(plan_uplink(nic.uplink, nic.bridge, seen)))
        steps.update(dict.fromkeys(plan_trunk_bridge(nic, seen)))
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
