"""Routes of a NIC."""

import ipaddress
from collections.abc import Iterator

from onedock.nodeside.agent.seen import InnerLink, canonical_gateway, metric
from onedock.nodeside.agent.steps import AddGateway, RemoveGateway, Step
from onedock.reconcilers.model import Nic


def plan_routes(nic: Nic, inner: InnerLink) -> Iterator[Step]:
    """Default routes are those wanted, and no others that are static."""
    want = {(canonical_gateway(gateway), metric(nic)) for gateway in nic.gateways}
    for gateway, number in inner.gateways:
        if (gateway, number) not in want:
            yield RemoveGateway(nic.name, gateway, number)
    subnets = [ipaddress.ip_interface(address).network for address in nic.addresses]
    for gateway, number in sorted(want - set(inner.gateways)):
        onlink = not any(ipaddress.ip_address(gateway) in subnet for subnet in subnets)
        yield AddGateway(nic.name, gateway, number, onlink)
