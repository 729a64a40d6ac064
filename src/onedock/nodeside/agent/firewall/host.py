"""What a VM may not forge, at the node's side of its NICs: nothing in the namespace can change it. Stateless.

The bandwidth of raw frames is limited here too, because those may bypass the queue that shapes all others.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_interface

from onedock.nodeside.agent.firewall import dhcp
from onedock.nodeside.agent.firewall.document import (
    ACCEPT,
    DROP,
    ETHER_TYPE,
    RETURN,
    Document,
    Expression,
    Part,
    between,
    field,
    goto,
    is_,
    is_not,
    jump,
    meta,
    raw,
)
from onedock.reconcilers.model import Nic, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Method

TABLE = ("netdev", "onedock")
"""One for the filters of all VMs, in the agent's namespace: to list many tables, everybody's ``nft`` takes its time."""
CHAINS = ("", ".nd", ".nameless")
"""Of a NIC, after its name; the first leads to the others."""
SETS = {".net4": "ipv4_addr", ".net6": "ipv6_addr"}
COUNTERS = ("rate", "mac", "vlan", "ethertype", "arp", "ipv4", "dhcp-server", "ipv6", "nd", "router")
"""Of a NIC, after its name and a dot, in the order of the rules."""

_NAME = re.compile(r"one-([0-9]+)-([0-9]+)(?:\.|$)")

_ICMPV6 = 58
_SOLICIT_ROUTER, _ADVERTISE_ROUTER, _SOLICIT, _ADVERTISE, _REDIRECT, _LISTEN = 133, 134, 135, 136, 137, 143
_UNSPECIFIED = "::"

_VLAN_TAGS = [0x8100, 0x88A8]
_FRAGMENT_OF = {"exthdr": {"name": "frag", "field": "nexthdr"}}
_EXTENSIONS = (0, between(43, 44), 51, 60)
"""Hop-by-hop options, routing, fragment, authentication, destination options."""

_ND_TARGET = raw("th", 64, 128)
_ND_TARGET_SUFFIX = raw("th", 128, 64)
_SOURCE_SUFFIX = raw("nh", 128, 64)
_SOURCE_LINK, _TARGET_LINK, _NONCE = 0x0101, 0x0201, 0x0E01
"""Type and length of an option of neighbour discovery; eight bytes each."""

_SPARE = 1.25
"""The shaper counts the Ethernet header and its bucket is finer: it must always be the one that acts."""
_LEAST_BURST = 256 * 1024
"""Four of the largest packets that segmentation offload makes."""
_MOST_BURST = 2**32 - 1
"""Of the kernel, for this and for what queues the other packets."""


@dataclass(frozen=True, slots=True)
class _Own:
    """What a NIC may say it is."""

    mac: str
    net4: list[str]
    net6: list[str]
    suffix: int | None
    """With addresses by router advertisement, whatever their prefix: the lower half."""


def chain_name(vm: VmId, index: int) -> str:
    """The chain of a NIC, and how the names of all else of it begin. Never the link's, which may be any."""
    return f"one-{vm}-{index}"


def owner(name: str) -> tuple[VmId, int] | None:
    """VM and index of the NIC that a chain, set or counter is for; None when it is not ours."""
    found = _NAME.match(name)
    return (VmId(int(found[1])), int(found[2])) if found else None


def part(vm: VmId, nics: Iterable[Nic]) -> Part:
    """What the VM has of the table with these NICs."""
    return Part(vm, frozenset(nic.index for nic in nics))


def nothing_of(gone: Part) -> Document:
    """Leaves nothing of it. What is added is there already, or goes at once: so nothing has to be there."""
    table = Document(*TABLE, shared=True)
    for index in sorted(gone.nics):
        _without_rules(table, chain := chain_name(gone.vm, index))
        for rule in COUNTERS:
            table.without("counter", f"{chain}.{rule}")
    return table


def _without_rules(table: Document, chain: str) -> None:
    for one in CHAINS:
        table.without("chain", chain + one)
    for one, kind in SETS.items():
        table.without("set", chain + one, type=kind)


def is_watched(nic: Nic) -> bool:
    """Whether the node has to look at what the NIC sends."""
    return nic.spoofing.mac or nic.spoofing.ip or nic.outbound is not None


def watch(vm: VmId, nics: tuple[Nic, ...]) -> Document:
    """A chain for each NIC, in place of what the table has for it; counters go on."""
    table = Document(*TABLE, shared=True)
    for nic in nics:
        chain = chain_name(vm, nic.index)
        own = _own(nic)
        _without_rules(table, chain)
        if nic.spoofing.ip:
            table.add_set(f"{chain}.net4", [SETS[".net4"]], own.net4)
            table.add_set(f"{chain}.net6", [SETS[".net6"]], own.net6)
        table.base_chain(chain, "ingress", 0, nic.host_name)
        if nic.outbound is not None:
            table.rule(chain, _over(nic.outbound), DROP, count=f"{chain}.rate")
        if nic.spoofing.mac:
            table.rule(chain, is_not(field("ether", "saddr"), own.mac), DROP, count=f"{chain}.mac")
        if nic.spoofing.mac or nic.spoofing.ip:
            # A tag that is wanted has been taken off: what is inside is a tag only when there are two.
            tagged = meta("protocol") if _wants_tags(nic) else ETHER_TYPE
            for tag in _VLAN_TAGS:
                table.rule(chain, is_(tagged, tag), DROP, count=f"{chain}.vlan")
        if nic.spoofing.ip:
            table.rule(chain, *_none_of(meta("protocol"), "ip", "ip6", "arp"), DROP, count=f"{chain}.ethertype")
        _arp(table, chain, nic, own)
        if nic.spoofing.ip:
            _ipv4(table, chain)
            _ipv6(table, chain, own)
        if nic.spoofing.mac or nic.spoofing.ip:
            _neighbours(table, chain, nic, own)
        for unused in (name for rule in COUNTERS if (name := f"{chain}.{rule}") not in table.counters):
            table.without("counter", unused)
    return table


def _arp(table: Document, chain: str, nic: Nic, own: _Own) -> None:
    if nic.spoofing.mac:
        table.rule(chain, is_not(field("arp", "saddr ether"), own.mac), DROP, count=f"{chain}.arp")
    if nic.spoofing.ip:
        # A probe, from 0.0.0.0, says that its target is about to be the sender's: who probes for it as well gives way.
        sender, target = field("arp", "saddr ip"), field("arp", "daddr ip")
        table.rule(chain, is_(sender, dhcp.NOBODY), is_not(target, f"@{chain}.net4"), DROP, count=f"{chain}.arp")
        table.rule(chain, is_not(sender, dhcp.NOBODY), is_not(sender, f"@{chain}.net4"), DROP, count=f"{chain}.arp")


def _ipv4(table: Document, chain: str) -> None:
    table.rule(chain, *dhcp.DISCOVER, ACCEPT)
    table.rule(chain, is_not(field("ip", "saddr"), f"@{chain}.net4"), DROP, count=f"{chain}.ipv4")
    _no_dhcp_server(table, chain, "ip", server=dhcp.SERVER, client=dhcp.CLIENT)


def _ipv6(table: Document, chain: str, own: _Own) -> None:
    nameless = f"{chain}.nameless"
    table.chain(nameless)
    for kind in (_SOLICIT_ROUTER, _SOLICIT, _LISTEN):
        table.rule(nameless, is_(field("icmpv6", "type"), kind), RETURN)
    table.rule(nameless, DROP, count=f"{chain}.ipv6")
    table.rule(chain, is_(field("ip6", "saddr"), _UNSPECIFIED), jump(nameless))
    foreign = [is_not(field("ip6", "saddr"), f"@{chain}.net6"), is_not(field("ip6", "saddr"), _UNSPECIFIED)]
    if own.suffix is not None:
        foreign.append(is_not(_SOURCE_SUFFIX, own.suffix))
    table.rule(chain, *foreign, DROP, count=f"{chain}.ipv6")
    _no_dhcp_server(table, chain, "ip6", server=547, client=546)


def _no_dhcp_server(table: Document, chain: str, protocol: str, *, server: int, client: int) -> None:
    """To a client's port from whichever: not every client looks where an answer is from."""
    for name, port in (("sport", server), ("dport", client)):
        table.rule(
            chain, is_(meta("protocol"), protocol), is_(field("udp", name), port), DROP, count=f"{chain}.dhcp-server"
        )


def _neighbours(table: Document, chain: str, nic: Nic, own: _Own) -> None:
    """Neighbour discovery. Its fields are at known places, because it comes without extension headers or not at all."""
    kind, nd = field("icmpv6", "type"), f"{chain}.nd"
    count = nd
    table.chain(nd)
    # What a fragment is of would not be known before all of them are there.
    for extension in _EXTENSIONS:
        table.rule(chain, is_(_FRAGMENT_OF, extension), DROP, count=count)
    table.rule(chain, is_(kind, between(_SOLICIT_ROUTER, _REDIRECT)), goto(nd))
    table.rule(nd, is_not(field("ip6", "nexthdr"), _ICMPV6), DROP, count=count)
    if nic.spoofing.ip:
        for forbidden in (_ADVERTISE_ROUTER, _REDIRECT):
            table.rule(nd, is_(kind, forbidden), DROP, count=f"{chain}.router")
        foreign = _none_of(_ND_TARGET, *(hex(int(IPv6Address(one))) for one in own.net6))
        if own.suffix is not None:
            foreign.append(is_not(_ND_TARGET_SUFFIX, own.suffix))
        table.rule(nd, is_(kind, _ADVERTISE), *foreign, DROP, count=count)
        # Asking for an address without having one says "it is going to be mine".
        claim = (is_(kind, _SOLICIT), is_(field("ip6", "saddr"), _UNSPECIFIED))
        table.rule(nd, *claim, *foreign, DROP, count=count)
    if nic.spoofing.mac:
        _link_addresses(table, nd, own.mac)
        for which in (_SOLICIT_ROUTER, between(_SOLICIT, _ADVERTISE)):
            table.rule(nd, is_(kind, which), DROP, count=count)


def _link_addresses(table: Document, nd: str, mac: str) -> None:
    """The only option is the NIC's own MAC, or the nonce of duplicate address detection, or there is none."""
    kind, size = field("icmpv6", "type"), field("ip6", "length")
    link = int(mac.replace(":", ""), 16)
    table.rule(nd, is_(kind, _SOLICIT_ROUTER), is_(size, 8), RETURN)
    table.rule(nd, is_(kind, _SOLICIT_ROUTER), is_(size, 16), is_(raw("th", 64, 64), _SOURCE_LINK << 48 | link), RETURN)
    table.rule(nd, is_(kind, between(_SOLICIT, _ADVERTISE)), is_(size, 24), RETURN)
    table.rule(nd, is_(kind, _SOLICIT), is_(size, 32), is_(raw("th", 192, 64), _SOURCE_LINK << 48 | link), RETURN)
    table.rule(nd, is_(kind, _SOLICIT), is_(size, 32), is_(raw("th", 192, 16), _NONCE), RETURN)
    table.rule(nd, is_(kind, _ADVERTISE), is_(size, 32), is_(raw("th", 192, 64), _TARGET_LINK << 48 | link), RETURN)


def _none_of(what: Expression, *values: int | str) -> list[Expression]:
    """Conditions instead of a set: the kernel looks for a set among all of the table, from the first one on."""
    return [is_not(what, value) for value in values]


def _over(limit: Bandwidth) -> Expression:
    rate = int(_SPARE * max(limit.average, limit.peak))
    burst = min(_MOST_BURST, max(_LEAST_BURST, 2 * limit.burst))  # besides what the rate gives in a second
    units = {"rate_unit": "bytes", "burst_unit": "bytes", "per": "second"}
    return {"limit": {"rate": rate, "burst": burst, "inv": True, **units}}


def _own(nic: Nic) -> _Own:
    addresses = {ip_interface(one).ip for one in (*nic.addresses, *nic.spoofing.addresses)}
    net4 = sorted(str(one) for one in addresses if one.version == 4)
    net6 = sorted({str(one) for one in addresses if one.version == 6} | {link_local(nic.mac)})
    suffix = int(IPv6Address(link_local(nic.mac))) & (2**64 - 1)
    return _Own(nic.mac.lower(), net4, net6, suffix if nic.method6 is Method.AUTO else None)


def link_local(mac: str) -> str:
    """The link-local address that the kernel makes of a MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    middle = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + middle))


def _wants_tags(nic: Nic) -> bool:
    trunk = nic.trunk is not None and bool(nic.trunk.tagged)
    return trunk or (nic.ovs is not None and bool(nic.ovs.trunks or nic.ovs.cvlans))
