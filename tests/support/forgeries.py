"""The table of what a guest sends: honest frames and forged ones, and which filters have to stop each."""

from functools import partial

from tests.support import packets as p
from tests.support.forger import Order
from tests.support.forging import (
    BY_GROUPS,
    BY_IP,
    BY_MAC,
    CLAIMED,
    CLAIMED_6,
    CLOSED_PORT,
    FOREIGN_MAC,
    GROUPS,
    OPEN_PORT,
    PEER,
    PEER_6,
    PEER_MAC,
    Forgery,
    Guest,
    arp,
    both_ends,
    discover,
    fragments,
    frame,
    nd,
    poisoned,
    server,
    stack_udp,
    syn,
    udp,
)


def _unknown(kind: int, target: str, guest: Guest, token: bytes) -> list[Order]:
    return frame(guest, kind, bytes(30), token, target=target)


_RA = p.router_advertisement("2001:db8:bad::", None)

HONEST = (
    Forgery("ARP request", lambda g, t: arp(g, t, p.REQUEST, g.mac, g.address, PEER)),
    Forgery("ARP reply", lambda g, t: arp(g, t, p.REPLY, g.mac, g.address, PEER)),
    Forgery("ARP probe", lambda g, t: arp(g, t, p.REQUEST, g.mac, "0.0.0.0", g.address)),
    Forgery("UDP by a socket", lambda g, t: [("datagram", g.link, g.address, 5001, PEER, OPEN_PORT, t.hex())]),
    Forgery("UDP over IPv6", lambda g, t: [("datagram", g.link, g.address6, 5001, PEER_6, OPEN_PORT, t.hex())]),
    Forgery("UDP packet by the stack", lambda g, t: stack_udp(g, t, g.address, OPEN_PORT)),
    # What did not come through the stack cannot be compared with a flow's state.
    Forgery("UDP frame", udp, frozenset(BY_GROUPS)),
    Forgery(
        "neighbour solicitation frame",
        lambda g, t: nd(g, t, p.NEIGHBOUR_SOLICITATION, p.solicitation(PEER_6, g.mac)),
        frozenset(BY_GROUPS),
    ),
    Forgery(
        "neighbour advertisement frame",
        lambda g, t: nd(g, t, p.NEIGHBOUR_ADVERTISEMENT, p.advertisement(g.address6, g.mac)),
        frozenset(BY_GROUPS),
    ),
    Forgery("DHCP client", discover, frozenset({GROUPS})),
)
"""What an honest guest sends; first of all a proof that these are seen."""

FORGED = (
    Forgery("source MAC", lambda g, t: udp(g, t, mac=FOREIGN_MAC), frozenset(BY_MAC | BY_GROUPS)),
    Forgery(
        "source MAC of ARP's frame",
        lambda g, t: frame(g, p.ARP, p.arp(p.REQUEST, g.mac, g.address, PEER), t, source=FOREIGN_MAC),
        frozenset(BY_MAC),
    ),
    Forgery("source address", lambda g, t: udp(g, t, source=CLAIMED), frozenset(BY_IP | BY_GROUPS)),
    Forgery(
        "source address over IPv6",
        lambda g, t: udp(g, t, source=CLAIMED_6, target=PEER_6),
        frozenset(BY_IP | BY_GROUPS),
    ),
    Forgery("source address by the stack", lambda g, t: stack_udp(g, t, CLAIMED, OPEN_PORT), frozenset(BY_IP)),
    Forgery(
        "source address by the stack over IPv6",
        lambda g, t: stack_udp(g, t, CLAIMED_6, OPEN_PORT, PEER_6),
        frozenset(BY_IP),
    ),
    Forgery(
        "source address of a transparent socket",
        lambda g, t: [("foreign", g.link, CLAIMED, 5001, PEER, OPEN_PORT, t.hex())],
        frozenset(BY_IP),
    ),
    Forgery(
        "source address past the queues",
        lambda g, t: udp(g, t, source=CLAIMED, how="direct"),
        frozenset(BY_IP | BY_GROUPS),
    ),
    Forgery("ARP reply, address", lambda g, t: arp(g, t, p.REPLY, g.mac, CLAIMED, PEER), frozenset(BY_IP)),
    Forgery("ARP request, address", lambda g, t: arp(g, t, p.REQUEST, g.mac, CLAIMED, PEER), frozenset(BY_IP)),
    Forgery("gratuitous ARP", lambda g, t: arp(g, t, p.REQUEST, g.mac, CLAIMED, CLAIMED), frozenset(BY_IP)),
    Forgery("ARP reply, MAC", lambda g, t: arp(g, t, p.REPLY, FOREIGN_MAC, g.address, PEER), frozenset(BY_MAC)),
    Forgery("ARP request, MAC", lambda g, t: arp(g, t, p.REQUEST, FOREIGN_MAC, g.address, PEER), frozenset(BY_MAC)),
    Forgery(
        "neighbour advertisement, address",
        lambda g, t: nd(g, t, p.NEIGHBOUR_ADVERTISEMENT, p.advertisement(CLAIMED_6, g.mac)),
        frozenset(BY_IP | BY_GROUPS),
    ),
    Forgery(
        "neighbour advertisement, MAC",
        lambda g, t: nd(g, t, p.NEIGHBOUR_ADVERTISEMENT, p.advertisement(g.address6, FOREIGN_MAC)),
        frozenset(BY_MAC | BY_GROUPS),
    ),
    Forgery(
        "neighbour advertisement behind options",
        lambda g, t: nd(g, t, p.NEIGHBOUR_ADVERTISEMENT, p.advertisement(CLAIMED_6, g.mac), options=True),
        frozenset(BY_MAC | BY_IP | BY_GROUPS),
    ),
    Forgery(
        "neighbour solicitation, address",
        lambda g, t: nd(g, t, p.NEIGHBOUR_SOLICITATION, p.solicitation(PEER_6, g.mac), source=CLAIMED_6),
        frozenset(BY_IP | BY_GROUPS),
    ),
    Forgery(
        "neighbour solicitation, MAC",
        lambda g, t: nd(g, t, p.NEIGHBOUR_SOLICITATION, p.solicitation(PEER_6, FOREIGN_MAC)),
        frozenset(BY_MAC | BY_GROUPS),
    ),
    Forgery(
        "claim of an address (DAD)",
        lambda g, t: nd(g, t, p.NEIGHBOUR_SOLICITATION, p.solicitation(CLAIMED_6, None), source="::"),
        frozenset(BY_IP | BY_GROUPS),
    ),
    Forgery("router advertisement", lambda g, t: nd(g, t, p.ROUTER_ADVERTISEMENT, _RA), frozenset(BY_IP | BY_GROUPS)),
    Forgery(
        "router advertisement behind options",
        lambda g, t: nd(g, t, p.ROUTER_ADVERTISEMENT, _RA, options=True),
        frozenset(BY_MAC | BY_IP | BY_GROUPS),
    ),
    Forgery(
        "redirect",
        lambda g, t: nd(g, t, p.REDIRECT, p.redirect(g.link_local, PEER_6, None)),
        frozenset(BY_IP | BY_GROUPS),
    ),
    Forgery(
        "redirect of a gateway over IPv4",
        lambda g, t: frame(g, p.IPV4, p.icmp(CLAIMED, PEER, 5, bytes(24) + t), b""),
        frozenset(BY_IP | BY_GROUPS),
    ),
    Forgery("DHCP server", server, frozenset(BY_IP | BY_GROUPS)),
    Forgery(
        "DHCPv6 server",
        lambda g, t: udp(g, t, source=g.link_local, ports=(547, 546), target=p.ALL_NODES),
        frozenset(BY_IP | BY_GROUPS),
    ),
    Forgery(
        "no address, another port",
        lambda g, t: udp(g, t, source="0.0.0.0", ports=(68, 4011), target="255.255.255.255"),
        frozenset(BY_IP | BY_GROUPS),
    ),
    *(
        Forgery(name, partial(udp, tags=tags), frozenset(BY_MAC | BY_IP | BY_GROUPS))
        for name, tags in (
            ("VLAN tag", ((0x8100, 5),)),
            ("priority tag", ((0x8100, 3 << 13),)),
            ("double VLAN tag", ((0x8100, 5), (0x8100, 6))),
            ("provider's tag", ((0x88A8, 5), (0x8100, 6))),
        )
    ),
    Forgery(
        "VLAN tag around ARP",
        lambda g, t: frame(g, p.ARP, p.arp(p.REQUEST, g.mac, g.address, PEER), t, tags=((0x8100, 5),)),
        frozenset(BY_MAC | BY_IP | BY_GROUPS),
    ),
    *(
        Forgery(
            name,
            partial(_unknown, kind, target),
            frozenset(BY_IP | BY_GROUPS),
        )
        for name, kind, target in (
            ("spanning tree", 38, "01:80:c2:00:00:00"),
            ("LLDP", 0x88CC, "01:80:c2:00:00:00"),
            ("reverse ARP", 0x8035, p.BROADCAST),
            ("an unknown protocol", 0x88B5, PEER_MAC),
            ("an unknown tag", 0x9100, p.BROADCAST),
        )
    ),
    *(
        Forgery(f"TCP to a closed port ({how})", partial(syn, how=how), frozenset(BY_GROUPS))
        for how in ("packet", "direct")
    ),
    Forgery(
        "UDP to a closed port by a socket",
        lambda g, t: [("datagram", g.link, g.address, 5001, PEER, CLOSED_PORT, t.hex())],
        frozenset(BY_GROUPS),
    ),
    Forgery(
        "UDP to a closed port by the stack",
        lambda g, t: stack_udp(g, t, g.address, CLOSED_PORT),
        frozenset(BY_GROUPS),
    ),
    Forgery("both ends of a flow", both_ends, frozenset(BY_IP | BY_GROUPS)),
    Forgery("fragments to a closed port", fragments, frozenset(BY_GROUPS)),
    *(
        Forgery(
            f"answer to a question from inside ({how})",
            partial(poisoned, inject=how),
            frozenset(BY_GROUPS),
        )
        for how in ("packet", "stack")
    ),
)
