"""Addresses, routes, limits and security rules of a NIC."""

import ipaddress
from collections.abc import Collection

from onedock.nodeside.agent.validate.words import (
    InvalidRequestError,
    check_count,
    check_number,
    version_of_address,
    version_of_interface,
    version_of_network,
)
from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Bandwidth, Method, Protocol, SecurityRule
from onedock.reconcilers.resolver import is_domain, is_server

MAX_ADDRESSES = 1024
MAX_ROUTES = 1024
MAX_RULES = 8192
MAX_PEERS = 65536
MAX_PORTS = 1024
MAX_NAMES = 64
_METHODS = {4: frozenset({Method.STATIC, Method.DHCP, Method.SKIP}), 6: frozenset(Method) - {Method.DHCP}}
_RATES = range(1024, 2**32)
"""Bytes per second: the kernel's token buckets count up to there, and show no packet that takes minutes."""
_METRICS = range(1, 2**32)
"""For IPv6, 0 would mean 1024."""


def check_layer3(where: str, nic: Nic) -> set[int]:
    """Raise InvalidRequestError for what no NIC can have; returns the families of its addresses and gateways."""
    check_count(where, "addresses", len(nic.addresses), MAX_ADDRESSES)
    versions = {version_of_interface(where, address) for address in nic.addresses}
    if len({address.partition("/")[0] for address in nic.addresses}) != len(set(nic.addresses)):
        raise InvalidRequestError(f"{where}: one address with two prefixes; give each address once")
    gateways = [version_of_address(where, "a gateway", gateway) for gateway in nic.gateways]
    if len(gateways) != len(set(gateways)):
        raise InvalidRequestError(f"{where}: two default gateways of one family; give at most one for IPv4 and IPv6")
    versions.update(gateways)
    versions.update(_check_routes(where, nic))
    for version, method in ((4, nic.method), (6, nic.method6)):
        if method not in _METHODS[version]:
            raise InvalidRequestError(f"{where}: method {method} is not for IPv{version}; use static or skip")
    if nic.method6 is Method.DISABLE and 6 in versions:
        raise InvalidRequestError(f"{where}: IPv6 addresses or routes with method disable; leave one of them out")
    for field, number in (("metric", nic.metric), ("metric6", nic.metric6)):
        if number is not None:
            check_number(where, field, number, _METRICS)
    for field, limit in (("inbound", nic.inbound), ("outbound", nic.outbound)):
        if limit is not None:
            _check_limit(where, field, limit)
    check_count(where, "security rules", len(nic.rules or ()), MAX_RULES)
    for rule in nic.rules or ():
        _check_rule(f"{where}, security group {rule.group}", rule)
    check_count(where, "addresses", len(nic.spoofing.addresses), MAX_ADDRESSES)
    for address in nic.spoofing.addresses:
        version_of_address(where, "the VM", address)
    check_name_servers(where, nic.dns)
    check_count(where, "search domains", len(nic.search), MAX_NAMES)
    for domain in nic.search:
        if not is_domain(domain):
            raise InvalidRequestError(f"{where}: {domain[:60]!r} is no search domain; use a form like example.org")
    if nic.leased is not None:
        raise InvalidRequestError(f"{where}: leased is filled in by the node; leave it out")
    return versions


def check_name_servers(where: str, servers: Collection[str]) -> None:
    """Raise InvalidRequestError unless all can stand in a resolv.conf."""
    check_count(where, "name servers", len(servers), MAX_NAMES)
    for server in servers:
        if not is_server(server):
            raise InvalidRequestError(f"{where}: {server[:60]!r} is no address of a name server; use one like 10.0.0.1")


def _check_routes(where: str, nic: Nic) -> set[int]:
    check_count(where, "routes", len(nic.routes), MAX_ROUTES)
    versions: set[int] = set()
    destinations: set[object] = set()
    for route in nic.routes:
        version = version_of_network(where, route.destination)
        if version != version_of_address(where, "a gateway", route.gateway):
            raise InvalidRequestError(f"{where}: {route.destination} via {route.gateway}; both must be of one family")
        destination = ipaddress.ip_network(route.destination, strict=False)
        if destination in destinations:
            raise InvalidRequestError(f"{where}: two routes to {destination}; give one")
        destinations.add(destination)
        versions.add(version)
    return versions


def _check_limit(where: str, field: str, limit: Bandwidth) -> None:
    check_number(where, f"{field} bytes per second", limit.average, _RATES)
    if limit.peak:
        check_number(where, f"{field} peak bytes per second", limit.peak, _RATES)
    check_number(where, f"{field} burst", limit.burst, range(2**40))


def _check_rule(where: str, rule: SecurityRule) -> None:
    check_count(where, "ranges of ports", len(rule.ports), MAX_PORTS)
    for first, last in rule.ports:
        check_number(where, "port", first, range(65536))
        check_number(where, "port", last, range(first, 65536))
    if rule.ports and rule.protocol not in {Protocol.TCP, Protocol.UDP}:
        raise InvalidRequestError(f"{where}: ports with protocol {rule.protocol}; they are for tcp and udp only")
    if rule.icmp_type is not None:
        check_number(where, "ICMP type", rule.icmp_type, range(256))
        if rule.protocol not in {Protocol.ICMP, Protocol.ICMPV6}:
            raise InvalidRequestError(f"{where}: an ICMP type with protocol {rule.protocol}; leave one of them out")
    check_count(where, "ranges of addresses", len(rule.peers), MAX_PEERS)
    for first_text, last_text in rule.peers:
        version = version_of_address(where, "a range", first_text)
        if version_of_address(where, "a range", last_text) != version or _number(first_text) > _number(last_text):
            raise InvalidRequestError(f"{where}: {first_text} to {last_text} is no range of addresses; correct it")


def _number(address: str) -> int:
    return int(ipaddress.ip_address(address))
