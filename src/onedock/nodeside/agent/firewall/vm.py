"""Security groups, inside of the VM's namespace: stateful chains at the IP stack, and a guard against raw frames.

Nobody in the VM may answer its DHCP client, where the addresses of leases are those that the node's filter lets pass.

A container may send frames past the IP stack (``AF_PACKET``, CAP_NET_RAW), which no ``inet`` chain sees. The guard is a
chain at egress of the NIC that lets pass what has a route, which the IP stack gives to everything it sends and nothing
else can have; besides ARP and, as far as the groups let it out, what a DHCP client broadcasts.
"""

from itertools import groupby
from zlib import crc32

from onedock.nodeside.agent.firewall import dhcp
from onedock.nodeside.agent.firewall.document import (
    ACCEPT,
    DROP,
    ETHER_TYPE,
    Document,
    Expression,
    field,
    goto,
    is_,
    is_not,
    meta,
    set_to,
)
from onedock.nodeside.agent.firewall.matches import matches
from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Direction, Method, Protocol, SecurityRule

TABLE = "onedock"

_IN_NEIGHBOURS = [134, 135, 136, 137]
_OUT_NEIGHBOURS = [133, 135, 136]
"""ICMPv6 that the stock driver lets through whatever the groups say: routers' and neighbours' words, not MLD."""

_IPV4, _ARP = 0x0800, 0x0806

_FLOW: Expression = {"ct": {"key": "mark"}}
"""Mark of a flow; nobody in the VM can set it."""

_WAYS = {Direction.INBOUND: "in", Direction.OUTBOUND: "out"}

_OWN = 1
"""Mark of what the VM sends to many and may hear itself. A veth takes marks off, so no packet from outside has one."""

_FOREIGN = is_not({"fib": {"result": "type", "flags": ["saddr"]}}, "local")
"""From an address that the guest does not have."""
_ANSWER = is_({"ct": {"key": "direction"}}, "reply")


def is_filtered(nic: Nic) -> bool:
    """Whether the NIC has groups that do not let everything through."""
    return not (is_open(nic, Direction.INBOUND) and is_open(nic, Direction.OUTBOUND))


def guards_lease(nic: Nic) -> bool:
    """Whether the guest could choose what the node's filter takes for its address: as the server of its own client."""
    return nic.spoofing.ip and nic.method is Method.DHCP


def is_open(nic: Nic, direction: Direction) -> bool:
    """Whether everything passes in one direction, as with the default group."""
    return nic.rules is None or any(_passes_all(rule) for rule in nic.rules if rule.direction is direction)


def stateful(nics: tuple[Nic, ...]) -> Document:
    """The table at the IP stack. Inbound before routing, so that a forwarding VM is covered; outbound after it."""
    table = Document("inet", TABLE)
    table.base_chain("inbound", "prerouting", 0)
    table.base_chain("outbound", "postrouting", 0)
    for nic in filter(guards_lease, nics):
        # A sender hears its own broadcasts, as if they came in by the NIC.
        answer = (is_(meta("oifname"), nic.name), is_(meta("nfproto"), "ipv4"), is_(field("udp", "dport"), dhcp.CLIENT))
        table.rule("outbound", *answer, DROP, count=f"{nic.name}.out.dhcp-server")
    filtered = tuple(filter(is_filtered, nics))
    if not filtered:
        return table
    # A packet that the guest makes up as coming from elsewhere, and sends to itself, would begin a flow; what it then
    # sends there would be the answer, which passes whatever the groups say. One that came through the stack is a flow
    # when it leaves, a raw frame when it comes in.
    table.rule("outbound", is_(meta("oifname"), "lo"), _FOREIGN, DROP, count="lo.out.forged")
    table.rule("inbound", is_(meta("iifname"), "lo"), _FOREIGN, DROP, count="lo.in.forged")
    for nic in filtered:
        if not is_open(nic, Direction.INBOUND):
            _inbound(table, nic)
        _outbound(table, nic)
    return table


def guard(nics: tuple[Nic, ...]) -> Document | None:
    """The table that stops what did not come through the IP stack; None where everything may leave."""
    table = Document("netdev", TABLE)
    guarded = [nic for nic in nics if not is_open(nic, Direction.OUTBOUND)]
    for nic in guarded:
        chain = f"guard-{nic.name}"
        table.base_chain(chain, "egress", 0, nic.name)
        # The class is 0 as a rule; asking for it fails where there is no route, and that is what counts.
        table.rule(chain, {"match": {"op": ">=", "left": meta("rtclassid"), "right": 0}}, ACCEPT)
        table.rule(chain, is_(ETHER_TYPE, _ARP), ACCEPT)
        if lets_discover_out(nic):
            table.rule(chain, is_(ETHER_TYPE, _IPV4), *dhcp.DISCOVER, ACCEPT)
        table.rule(chain, DROP, count=f"{nic.name}.out.raw")
    return table if guarded else None


def lets_discover_out(nic: Nic) -> bool:
    """Whether a DHCP client may ask: with the IP filter as in the stock driver, with our client, or by a rule."""
    return (
        nic.spoofing.ip
        or nic.method is Method.DHCP
        or any(_admits_discover(rule) for rule in nic.rules or () if rule.direction is Direction.OUTBOUND)
    )


def _inbound(table: Document, nic: Nic) -> None:
    chain = f"in-{nic.name}"
    table.chain(chain)
    table.rule("inbound", is_(meta("iifname"), nic.name), goto(chain))
    seal = _seal(nic, Direction.INBOUND)
    _known(table, chain, nic, Direction.INBOUND, seal)
    table.rule(chain, is_(field("icmpv6", "type"), _IN_NEIGHBOURS), ACCEPT, count=f"{nic.name}.in.neighbours")
    table.rule(chain, is_(meta("mark"), _OWN), ACCEPT, count=f"{nic.name}.in.own")
    if nic.method is Method.DHCP:
        table.rule(chain, *dhcp.ANSWER, ACCEPT, count=f"{nic.name}.in.dhcp")
    _groups(table, chain, nic, Direction.INBOUND, seal)
    table.rule(chain, DROP, count=f"{nic.name}.in.dropped")


def _outbound(table: Document, nic: Nic) -> None:
    chain = f"out-{nic.name}"
    table.chain(chain)
    table.rule("outbound", is_(meta("oifname"), nic.name), goto(chain))
    if not is_open(nic, Direction.OUTBOUND):
        # Both ends of a flow made up by the guest, who is neither of them nor a router: the answer would pass.
        made_here = is_(meta("iif"), 0)
        table.rule(chain, _ANSWER, made_here, _FOREIGN, DROP, count=f"{nic.name}.out.forged")
    seal = None if is_open(nic, Direction.OUTBOUND) else _seal(nic, Direction.OUTBOUND)
    _known(table, chain, nic, Direction.OUTBOUND, seal)
    if not is_open(nic, Direction.INBOUND):
        many: Expression = {"fib": {"result": "type", "flags": ["daddr"]}}
        table.rule(chain, is_(many, ["multicast", "broadcast"]), set_to(meta("mark"), _OWN))
    if seal is None:
        return
    table.rule(chain, is_(field("icmpv6", "type"), _OUT_NEIGHBOURS), ACCEPT, count=f"{nic.name}.out.neighbours")
    if nic.method is Method.DHCP:
        table.rule(chain, *dhcp.ASK, ACCEPT, count=f"{nic.name}.out.dhcp")
    elif nic.spoofing.ip:
        table.rule(chain, *dhcp.DISCOVER, ACCEPT, count=f"{nic.name}.out.dhcp")
    _groups(table, chain, nic, Direction.OUTBOUND, seal)
    table.rule(chain, DROP, count=f"{nic.name}.out.dropped")


def _known(table: Document, chain: str, nic: Nic, direction: Direction, seal: int | None) -> None:
    """Flows that were let through before: answered ones for ever, others as long as the rules are the same.

    So what nobody answers, such as a stream to many, is looked up in the groups' sets only once.
    """
    count = f"{nic.name}.{_WAYS[direction]}.established"
    state = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}
    table.rule(chain, state, ACCEPT, count=count)
    if seal is not None:
        table.rule(chain, is_(_FLOW, seal), ACCEPT, count=count)


def _seal(nic: Nic, direction: Direction) -> int:
    """What a flow is marked with that these rules have let through; never 0, which no mark is."""
    rules = sorted(repr(rule) for rule in nic.rules or () if rule.direction is direction)
    return crc32("\n".join([nic.name, direction, *rules]).encode()) or 1


def _groups(table: Document, chain: str, nic: Nic, direction: Direction, seal: int) -> None:
    """Elements count, so that it is seen which rule of which group let packets through."""
    remember = set_to(_FLOW, seal)
    rules = sorted((rule for rule in nic.rules or () if rule.direction is direction), key=_group)
    for group, some in groupby(rules, key=_group):
        for one in matches(tuple(some)):
            name = "-".join([chain, str(group), *one.fields])
            table.add_set(name, one.kind, one.elements(), *one.flags, counted=True)
            table.rule(chain, is_(one.key(direction), f"@{name}"), remember, ACCEPT)


def _group(rule: SecurityRule) -> int:
    return rule.group


def _passes_all(rule: SecurityRule) -> bool:
    return rule.protocol is Protocol.ALL and not rule.peers


def _admits_discover(rule: SecurityRule) -> bool:
    if rule.protocol not in {Protocol.ALL, Protocol.UDP}:
        return False
    ports = not rule.ports or any(first <= 67 <= last for first, last in rule.ports)
    peers = not rule.peers or any(last == "255.255.255.255" for _, last in rule.peers)
    return ports and peers
