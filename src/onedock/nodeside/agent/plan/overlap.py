"""NICs of one VM in the same IPv4 subnet."""

import ipaddress
from collections.abc import Iterator

from onedock.nodeside.agent.seen import InnerLink
from onedock.nodeside.agent.steps import SetIpv4, Step
from onedock.reconcilers.model import Network, Nic

_OWN_ADDRESSES_ONLY = {"arp_ignore": 1, "arp_announce": 2}


def plan_overlap(wanted: Network, nic: Nic, inner: InnerLink) -> Iterator[Step]:
    """Where several NICs are in one subnet, each speaks of its own addresses only by ARP, as its filter wants it.

    By default, Linux answers for any address on any NIC, and neighbours would learn the wrong MAC.
    """
    subnets = _subnets(nic)
    if not any(
        one.overlaps(other)
        for neighbour in wanted.nics
        if neighbour.index != nic.index
        for other in _subnets(neighbour)
        for one in subnets
    ):
        return
    have = dict(inner.ipv4)
    for key, value in _OWN_ADDRESSES_ONLY.items():
        if have.get(key, value) != value:
            yield SetIpv4(nic.name, key, value)


def _subnets(nic: Nic) -> list[ipaddress.IPv4Network]:
    return [ipaddress.IPv4Interface(address).network for address in nic.addresses if ":" not in address]
