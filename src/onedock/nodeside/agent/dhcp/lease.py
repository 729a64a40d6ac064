"""A DHCP lease: what the client's event said, and what that makes of a NIC. Pure; every value is untrusted."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onedock.reconcilers.resolver import is_domain

LONGEST_S = 10 * 365 * 86400
"""Seconds. A lease for ever is kept for ten years: an address without an end would count as one that nobody leased."""
_MAX_ROUTES = 64
_MAX_SERVERS = 8
_MAX_DOMAINS = 16
_LEAST_MTU = 576
"""What every IPv4 host has to take (RFC 791); less than that from a server is a mistake or an attack."""


class BadLeaseError(ValueError):
    """The server's answer cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a DHCP server has given to a NIC."""

    address: str
    """CIDR, IPv4."""
    seconds: int
    """How long it is valid from ``obtained`` on."""
    obtained: float
    """Unix time."""
    server: str = ""
    routes: tuple[tuple[str, str], ...] = ()
    """(destination as CIDR, gateway); an empty gateway: on the link itself."""
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    """Domains that names are looked for in."""
    mtu: int | None = None

    def remaining(self, now: float) -> int:
        """Seconds until its end; 0 when that is past. A clock that was set back prolongs it by no more than itself."""
        return max(0, int(self.seconds - max(0.0, now - self.obtained)))

    @property
    def ip(self) -> str:
        """The address without its prefix."""
        return self.address.partition("/")[0]


def parse_record(record: bytes) -> dict[str, str]:
    """Lines of ``NAME=value``, each ended by a zero byte, as /proc/<pid>/environ has them."""
    pairs = (line.partition("=") for line in record.decode(errors="replace").split("\0"))
    return {name: value for name, sign, value in pairs if sign}


def parse_lease(event: Mapping[str, str], now: float, before: Lease | None = None) -> Lease:
    """The lease in the variables that udhcpc sets for ``bound`` and ``renew``. Raises BadLeaseError.

    What is renewed stays the same address (RFC 2131, 4.3.2): while it has one, a client takes such an answer from
    anybody who reaches it, and the filters of the NIC let pass what was leased.
    Classless static routes, where there are any, stand for the routers as well (RFC 3442).
    """
    address = _interface(event.get("ip", ""), event.get("subnet") or event.get("mask", ""))
    if event.get("event") == "renew" and (before is None or str(address.ip) != before.ip):
        raise BadLeaseError(f"{address.ip} instead of the address that is to be renewed")
    # Of two gateways to one destination, the first.
    routes = tuple(dict(reversed([*_static_routes(event.get("staticroutes", "").split())])).items())
    if not routes:
        routes = tuple(("0.0.0.0/0", router) for router in _addresses(event.get("router", ""))[:1])
    seconds = event.get("lease", "")
    if not (seconds.isascii() and seconds.isdecimal() and int(seconds) > 0):
        raise BadLeaseError(f"its length {seconds[:20]!r} is no number of seconds")
    mtu = event.get("mtu", "")
    return Lease(
        address=str(address),
        seconds=min(int(seconds), LONGEST_S),
        obtained=now,
        server=next(iter(_addresses(event.get("serverid", ""))), ""),
        routes=routes,
        dns=_addresses(event.get("dns", ""))[:_MAX_SERVERS],
        search=_domains(event.get("search") or event.get("domain", "")),
        mtu=int(mtu) if mtu.isascii() and mtu.isdecimal() and _LEAST_MTU <= int(mtu) <= 65535 else None,
    )


def _interface(ip: str, mask: str) -> ipaddress.IPv4Interface:
    try:
        address = ipaddress.IPv4Interface(f"{ip}/{mask}")
    except ValueError:
        raise BadLeaseError(f"{ip[:40]!r} with mask {mask[:40]!r} is no address") from None
    host = address.ip
    if (
        host.is_multicast
        or host.is_loopback
        or host.is_reserved
        or host.packed[0] == 0
        or address.network.prefixlen == 0
    ):
        raise BadLeaseError(f"{address} is no address for a host")
    return address


def _static_routes(words: list[str]) -> Iterable[tuple[str, str]]:
    for destination, gateway in list(zip(words[::2], words[1::2], strict=False))[:_MAX_ROUTES]:
        try:
            network, router = ipaddress.IPv4Network(destination, strict=False), ipaddress.IPv4Address(gateway)
        except ValueError:
            continue
        yield str(network), "" if router.is_unspecified else str(router)


def _domains(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(is_domain, text.split())))[:_MAX_DOMAINS]


def _addresses(text: str) -> tuple[str, ...]:
    """The words that are unicast IPv4 addresses, without repetitions."""
    found: dict[str, None] = {}
    for word in text.split():
        try:
            address = ipaddress.IPv4Address(word)
        except ValueError:
            continue
        if not (address.is_multicast or address.is_unspecified):
            found[str(address)] = None
    return tuple(found)
