"""Routes of a NIC: to its own subnets, static ones, and the default ones."""

from collections.abc import Iterator

from onedock.nodeside.agent.parsed import ip_address, ip_interface, ip_network
from onedock.nodeside.agent.plan.nic import is_guests, plan_addresses
from onedock.nodeside.agent.seen import InnerLink, canonical_gateway, metric
from onedock.nodeside.agent.steps import (
    AddAddress,
    AddConnected,
    AddGateway,
    AddRoute,
    RemoveAddress,
    RemoveGateway,
    RemoveRoute,
    Step,
)
from onedock.reconcilers.model import Nic

LINK_LOCAL = "fe80::/64"


def plan_routes(nic: Nic, inner: InnerLink, former: Nic | None) -> Iterator[Step]:
    """Static routes are those wanted and no others; where the guest is left to itself, others are its own.

    They are not when they were those of the ``former`` NIC.
    """
    yield from _plan_connected(nic, inner, former)
    routes, gateways = _routes(nic), _gateways(nic)
    former_routes, former_gateways = (_routes(former), _gateways(former)) if former is not None else (set(), set())
    for gateway, number in inner.gateways:
        one = gateway, number
        if one not in gateways and (one in former_gateways or not is_guests(nic, gateway)):
            yield RemoveGateway(nic.name, gateway, number)
    for route in inner.routes:
        if route not in routes and (route in former_routes or not is_guests(nic, route[1])):
            yield RemoveRoute(nic.name, *route)
    subnets = [ip_interface(address).network for address in nic.addresses]

    def onlink(gateway: str) -> bool:
        return not any(ip_address(gateway) in subnet for subnet in subnets)

    for destination, gateway, number in sorted(routes - set(inner.routes)):
        yield AddRoute(nic.name, destination, gateway, number, onlink(gateway))
    for gateway, number in sorted(gateways - set(inner.gateways)):
        yield AddGateway(nic.name, gateway, number, onlink(gateway))


def _routes(nic: Nic) -> set[tuple[str, str, int]]:
    return {
        (_network(route.destination), canonical_gateway(route.gateway), metric(nic, route.gateway))
        for route in nic.routes
    }


def _gateways(nic: Nic) -> set[tuple[str, int]]:
    return {(canonical_gateway(gateway), metric(nic, gateway)) for gateway in nic.gateways}


def _plan_connected(nic: Nic, inner: InnerLink, former: Nic | None) -> Iterator[Step]:
    """The kernel makes these itself with an address or when the NIC comes up, but never again."""
    if not inner.up:
        return
    changes = tuple(plan_addresses(nic, inner, former))
    gone = {step.address for step in changes if isinstance(step, RemoveAddress)}
    # A further IPv4 address of a subnet makes no route, a further IPv6 address does.
    made = {_network(step.address) for step in changes if isinstance(step, AddAddress) and ":" in step.address}
    firsts = {_network(address): address for address in reversed(inner.addresses) if ":" not in address}
    # When the first IPv4 address of a subnet goes, the next one gets its place and a route.
    made |= {subnet for subnet, first in firsts.items() if first in gone}
    missing: dict[str, str | None] = {}
    for address in inner.addresses:
        parsed = ip_interface(address)
        if address not in gone and parsed.network.prefixlen != parsed.network.max_prefixlen:
            missing.setdefault(str(parsed.network), str(parsed.ip) if parsed.version == 4 else None)
    if inner.link_local:
        missing.setdefault(LINK_LOCAL, None)
    for destination, source in missing.items():
        if destination not in inner.connected | made:
            yield AddConnected(nic.name, destination, source)


def _network(destination: str) -> str:
    return str(ip_network(destination, strict=False))
