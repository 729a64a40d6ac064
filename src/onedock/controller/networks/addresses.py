"""Addresses of a NIC and its aliases, how it gets them, gateways and routes."""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from onedock.controller.networks.values import Source, address
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.nic_parts import Method, Route

MAX_ADDRESSES = 1024
MAX_ROUTES = 1024
METRICS = range(1, 2**32)

_METHODS = {"": Method.STATIC, "static": Method.STATIC, "dhcp": Method.DHCP, "skip": Method.SKIP}
_METHODS6 = {
    "": Method.STATIC,
    "static": Method.STATIC,
    "auto": Method.AUTO,
    "dhcp": Method.AUTO,
    "skip": Method.SKIP,
    "disable": Method.DISABLE,
}
_FAMILY6 = ("IP6", "IP6_GLOBAL", "IP6_ULA")
_FLOATING = ("VROUTER_IP", "VROUTER_IP6_GLOBAL", "VROUTER_IP6_ULA", "VROUTER_IP6", "IP6_LINK")
"""Addresses of a VM that its guest or its kernel configures."""
_CONFIGURED = frozenset({Method.STATIC, Method.AUTO})


@dataclass(frozen=True, slots=True)
class Addressing:
    """What of a NIC is a matter of layer 3."""

    method: Method
    method6: Method
    addresses: tuple[str, ...]
    """CIDR, to be configured."""
    others: tuple[str, ...]
    """Of the VM too, without a prefix, and configured by somebody else."""
    gateways: tuple[str, ...]
    routes: tuple[Route, ...]
    metric: int | None
    metric6: int | None


def addressing(nic: Source, aliases: Iterable[Source], *, default_prefix: int, leases_only: bool) -> Addressing:
    """Addresses and routes of a NIC.

    Args:
        nic: the NIC.
        aliases: those whose parent it is.
        default_prefix: of an IPv4 address when nothing names a mask.
        leases_only: only what OpenNebula leased is an address of the VM: a user may write addresses into the context,
            and they would get past a filter of addresses.

    Raises:
        TerminalError: a value that is none, or too many.
    """
    method = _method(nic, "METHOD", _METHODS)
    method6 = _method(nic, "IP6_METHOD", _METHODS6)
    configured: dict[str, str] = {}
    others: dict[str, None] = {}
    sources = [(nic, method in _CONFIGURED), *((alias, method is not Method.SKIP) for alias in aliases)]
    if len(sources) > MAX_ADDRESSES:
        raise nic.refusal(f"{len(sources) - 1} aliases are too many; at most {MAX_ADDRESSES - 1} are possible")
    for source, with_ipv4 in sources:
        external = source is not nic and source.yes("EXTERNAL")
        for cidr in _cidrs(source, default_prefix, leases_only=leases_only):
            plain, _, _ = cidr.partition("/")
            if not external and (method6 in _CONFIGURED if ":" in plain else with_ipv4):
                configured.setdefault(plain, _usable(source, cidr))
            else:
                others[plain] = None
        others.update(dict.fromkeys(address(text, name) for name in _FLOATING if (text := source.text(name))))
    return Addressing(
        method,
        method6,
        addresses=tuple(configured.values()),
        others=tuple(plain for plain in others if plain not in configured),
        # A router is not routed by itself.
        gateways=tuple(gateway for gateway in _gateways(nic, method, method6) if gateway not in configured),
        routes=tuple(
            route for route in _routes(nic) if (method6 if ":" in route.destination else method) in _CONFIGURED
        ),
        metric=nic.number("METRIC", nic.either("METRIC", "METRIC"), METRICS),
        metric6=nic.number("IP6_METRIC", nic.either("IP6_METRIC", "IP6_METRIC"), METRICS),
    )


def _method(nic: Source, name: str, known: dict[str, Method]) -> Method:
    text = nic.either(name, name)
    if (method := known.get(text.lower())) is None:
        words = ", ".join(word for word in known if word)
        raise nic.refusal(f"{name} must be one of {words}, not {text[:20]!r}")
    return method


def _cidrs(source: Source, default_prefix: int, *, leases_only: bool) -> Iterator[str]:
    def said(name: str) -> str:
        return source.text(name) if leases_only else source.either(name, name)

    if ip := said("IP"):
        yield _with_prefix(ip, source.either("MASK", "NETWORK_MASK") or str(default_prefix))
    length = source.either("IP6_PREFIX_LENGTH", "PREFIX_LENGTH") or "64"
    for name in _FAMILY6:
        if ip6 := said(name):
            yield _with_prefix(ip6, length)


def _with_prefix(text: str, mask: str) -> str:
    try:
        return str(ipaddress.ip_interface(f"{address(text, 'IP')}/{mask}"))
    except ValueError:
        raise TerminalError(f"{text[:45]}/{mask[:20]} is not an address with its mask") from None


def _usable(source: Source, cidr: str) -> str:
    """``cidr``, if a kernel can have it as its own. Raises TerminalError."""
    found = ipaddress.ip_interface(cidr)
    last = found.network.broadcast_address if found.version == 4 and found.network.prefixlen < 31 else None
    if found.ip.is_unspecified or found.ip.is_loopback or found.ip.is_multicast:
        raise source.refusal(f"{found.ip} can be nobody's address; correct the address range of the virtual network")
    if found.version == 6 and found.ip.is_link_local:
        raise source.refusal(f"{found.ip} is an address of the link, which the kernel gives; correct the address range")
    if found.ip == last:
        raise source.refusal(
            f"{cidr} is the broadcast address of its subnet; correct NETWORK_MASK or the address range"
        )
    return cidr


def _gateways(nic: Source, method: Method, method6: Method) -> Iterator[str]:
    """The default gateways, at most one per family: the IPv4 attribute may hold an IPv6 address."""
    seen: set[int] = set()
    for name, fallback in (("GATEWAY", "GATEWAY"), ("IP6_GATEWAY", "GATEWAY6")):
        if text := nic.either(name, fallback):
            gateway = address(text, name)
            version = ipaddress.ip_address(gateway).version
            if version not in seen and (method6 if version == 6 else method) in _CONFIGURED:
                seen.add(version)
                yield gateway


def _routes(nic: Source) -> list[Route]:
    """ROUTES: ``10.0.0.0/8 via 192.168.7.1, 172.16.0.0/12 via 192.168.7.2``; each destination has one gateway."""
    parts = [part.split() for part in nic.either("ROUTES", "ROUTES").split(",") if part.strip()]
    if len(parts) > MAX_ROUTES:
        raise nic.refusal(f"ROUTES names {len(parts)} routes; at most {MAX_ROUTES} are possible")
    found: dict[str, Route] = {}
    for words in parts:
        if len(words) != 3 or words[1] != "via":
            raise nic.refusal(f"ROUTES must be like '10.0.0.0/8 via 192.168.7.1, …', not {' '.join(words)[:60]!r}")
        gateway = address(words[2], "the gateway in ROUTES")
        try:
            destination = ipaddress.ip_network(words[0], strict=False)
        except ValueError:
            raise nic.refusal(f"ROUTES: {words[0][:60]!r} is not a network like 10.0.0.0/8") from None
        if "%" in words[0] or destination.version != ipaddress.ip_address(gateway).version:
            raise nic.refusal(
                f"ROUTES: {destination!s:.60} cannot be reached via {gateway}; both must be of one family"
            )
        if destination.prefixlen == 0:
            raise nic.refusal(f"ROUTES: {destination} is the default route; set GATEWAY or GATEWAY6 instead")
        route = Route(str(destination), gateway)
        if found.setdefault(route.destination, route) != route:
            raise nic.refusal(f"ROUTES: {destination} has two gateways; leave one")
    return list(found.values())
