"""How a NIC takes part in IPv6: sysctls of the VM's namespace."""

import ipaddress
from collections.abc import Iterator, Mapping

from onedock.nodeside.agent.seen import InnerLink
from onedock.nodeside.agent.steps import AddAddress, RemoveAddress, RemoveRouter, SetIpv6, Step
from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Method

_SYSCTLS: Mapping[Method, Mapping[str, int]] = {
    Method.STATIC: {"disable_ipv6": 0, "accept_ra": 0},
    # 2: also of a guest that forwards.
    Method.AUTO: {"disable_ipv6": 0, "accept_ra": 2, "autoconf": 1},
    Method.DISABLE: {"disable_ipv6": 1},
    Method.SKIP: {},
}
NEW = {"disable_ipv6": 0, "accept_ra": 0, "autoconf": 1}
"""What a NIC is born with (see ``namespaces``)."""


def plan_link_local(nic: Nic, inner: InnerLink) -> Iterator[Step]:
    """The kernel gives a NIC its IPv6 address of the link when it gets a carrier, but never again."""
    enabled = dict(inner.ipv6).get("disable_ipv6") == 0
    if enabled and inner.carrier and not inner.link_local and nic.method6 in {Method.STATIC, Method.AUTO}:
        yield AddAddress(nic.name, _link_local(inner.mac))


def _link_local(mac: str) -> str:
    """RFC 4291, appendix A, as the kernel does it by default."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return str(ipaddress.IPv6Interface((b"\xfe\x80" + bytes(6) + identifier, 64)))


def plan_ipv6(nic: Nic, inner: InnerLink, former: Nic | None) -> Iterator[Step]:
    """Whether routers are listened to, and IPv6 is there at all. Nothing without IPv6 in the kernel.

    A guest that is left to itself from now on begins with a NIC as it is born.
    """
    method = Method.STATIC if _is_left_alone(nic, former) else nic.method6
    have = dict(inner.ipv6)
    for key, value in _SYSCTLS[method].items():
        if have.get(key, value) != value:
            yield SetIpv6(nic.name, key, value)


def plan_unheard(nic: Nic, inner: InnerLink, former: Nic | None) -> Iterator[Step]:
    """What routers gave goes when they are not listened to any more; it would stay for as long as they have said."""
    if nic.method6 is Method.STATIC or _is_left_alone(nic, former):
        for address in inner.advertised:
            yield RemoveAddress(nic.name, address)
        for gateway in inner.routers:
            yield RemoveRouter(nic.name, gateway)


def _is_left_alone(nic: Nic, former: Nic | None) -> bool:
    """Whether it was not until now."""
    return nic.method6 is Method.SKIP and former is not None and former.method6 is not Method.SKIP
