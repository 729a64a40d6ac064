"""Routes of a NIC: to its own subnets, static ones, and the default ones."""

from collections.abc import Iterator

from onedock.nodeside.agent.parsed import ip_address, ip_interface, ip_network
from onedock.nodeside.agent.plan.nic import plan_addresses
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
from onedock.reconcilers.nic_parts import Method

LINK_LOCAL = "fe80::/64"


def plan_routes(nic: Nic, inner: InnerLink) -> Iterator[Step]:
    """Static routes are those wanted and no others; where the guest is left to itself, others are its own."""
    yield from _plan_connected(nic, inner)
    routes = {
        (_network(route.destination), canonical_gateway(route.gateway), metric(nic, route.gateway))
        for route in nic.routes
    }
    gateways = {(canonical_gateway(gateway), metric(nic, gateway)) for gateway in nic.gateways}
    for gateway, number in inner.gateways:
        if (gateway, number) not in gateways and not _is_guests(nic, gateway):
            yield RemoveGateway(nic.name, gateway, number)
    for destination, gateway, number in inner.routes:
        if (destination, gateway, number) not in routes and not _is_guests(nic, gateway):
            yield RemoveRoute(nic.name, destination, gateway, number)
    subnets = [ip_interface(address).network for address in nic.addresses]

    def onlink(gateway: str) -> bool:
        return not any(ip_address(gateway) in subnet for subnet in subnets)

    for destination, gateway, number in sorted(routes - set(inner.routes)):
        yield AddRoute(nic.name, destination, gateway, number, onlink(gateway))
    for gateway, number in sorted(gateways - set(inner.gateways)):
        yield AddGateway(nic.name, gateway, number, onlink(gateway))


def _plan_connected(nic: Nic, inner: InnerLink) -> Iterator[Step]:
    """The kernel makes these itself with an address or when the NIC comes up, but never again."""
    if not inner.up:
        return
    changes = tuple(plan_addresses(nic, inner))
    gone = {step.address for step in changes if isinstance(step, RemoveAddress)}
    # A further IPv4 address of a subnet makes no route, a further IPv6 address does.
    made = {_network(step.address) for step in changes if isinstance(step, AddAddress) and ":" in step.address}
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


def _is_guests(nic: Nic, address: str) -> bool:
    return (nic.method6 if ":" in address else nic.method) is Method.SKIP


def _network(destination: str) -> str:
    return str(ip_network(destination, strict=False))
