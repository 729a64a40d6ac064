"""Is a wanted network something that a kernel could be asked for? Pure; nothing is looked up on the node."""

import ipaddress
import re
from collections.abc import Iterable

from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic

MAX_VM = 2**30 - 1
"""Link groups carry the VM id in their lower 30 bits."""
MAX_NICS = 256

_LINK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,14}")
_RESERVED = frozenset({"all", "default", "lo"})
"""Names of directories in /proc/sys/net/*/conf, or of the loopback: they are never a NIC or bridge."""
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


class InvalidRequestError(TerminalError):
    """The request is malformed, whatever the state of the node."""


def check_vm(vm: int) -> None:
    """Raise InvalidRequestError unless ``vm`` can be the id of a VM."""
    if not 0 <= vm <= MAX_VM:
        raise InvalidRequestError(f"{vm} is no VM id; it must be from 0 to {MAX_VM}")


def check_container(container: str) -> None:
    """Raise InvalidRequestError unless ``container`` is a full container id: it becomes a file name."""
    if not _CONTAINER_ID.fullmatch(container):
        raise InvalidRequestError(f"{container[:80]!r} is no container id; send all 64 hexadecimal digits")


def check_network(network: Network) -> None:
    """Raise InvalidRequestError with cause and remedy for the first thing that no node could do."""
    check_vm(network.vm)
    if len(network.nics) > MAX_NICS:
        raise InvalidRequestError(f"{len(network.nics)} NICs are too many for a VM; at most {MAX_NICS} are possible")
    for nic in network.nics:
        _check_nic(nic)
    _check_unique("index", [nic.index for nic in network.nics])
    _check_unique("name", [nic.name for nic in network.nics])
    _check_unique("host_name", [nic.host_name for nic in network.nics])
    for one in network.nics:
        for other in network.nics:
            if one.phydev and one.phydev == other.phydev and one.bridge != other.bridge:
                raise InvalidRequestError(
                    f"physical device {one.phydev} cannot be in {one.bridge} and {other.bridge}; set one"
                )
    shared = {nic.bridge for nic in network.nics} | {nic.phydev for nic in network.nics if nic.phydev}
    for nic in network.nics:
        if nic.host_name in shared:
            raise InvalidRequestError(f"{nic.host_name} is host side of NIC {nic.index} and bridge at once; rename one")


def _check_nic(nic: Nic) -> None:
    where = f"NIC {nic.index}"
    if not 0 <= nic.index <= 0xFFFF:
        raise InvalidRequestError(f"{nic.index} is no NIC index; it must be from 0 to 65535")
    _check_link_name(where, "name", nic.name)
    _check_link_name(where, "host_name", nic.host_name)
    _check_link_name(where, "bridge", nic.bridge)
    if nic.phydev is not None:
        _check_link_name(where, "phydev", nic.phydev)
    if not _MAC.fullmatch(nic.mac) or int(nic.mac[:2], 16) & 1 or set(nic.mac) <= {"0", ":"}:
        raise InvalidRequestError(f"{where}: {nic.mac[:40]!r} is no unicast MAC; use a form like 02:00:c0:a8:00:01")
    versions = [_version_of_address(where, address) for address in nic.addresses]
    if len({address.partition("/")[0] for address in nic.addresses}) != len(set(nic.addresses)):
        raise InvalidRequestError(f"{where}: one address with two prefixes; give each address once")
    gateways = [_version_of_gateway(where, gateway) for gateway in nic.gateways]
    if len(gateways) != len(set(gateways)):
        raise InvalidRequestError(f"{where}: two default gateways of one family; give at most one for IPv4 and IPv6")
    least = 1280 if 6 in versions + gateways else 68
    if nic.mtu is not None and not least <= nic.mtu <= 65535:
        raise InvalidRequestError(f"{where}: MTU {nic.mtu} is impossible; with its addresses it is {least} to 65535")


def _check_link_name(where: str, field: str, name: str) -> None:
    if not _LINK_NAME.fullmatch(name) or name in _RESERVED:
        raise InvalidRequestError(
            f"{where}: {field} {name[:40]!r} is no name for a link;"
            " use 1 to 15 letters, digits or _.@+- beginning with a letter, digit or _"
        )


def _version_of_address(where: str, address: str) -> int:
    try:
        parsed = ipaddress.ip_interface(address)
    except ValueError:
        parsed = None
    if parsed is None or "/" not in address or "%" in address or parsed.is_multicast or parsed.is_unspecified:
        raise InvalidRequestError(f"{where}: {address[:60]!r} is no address with prefix; use a form like 10.0.0.7/24")
    return parsed.version


def _version_of_gateway(where: str, gateway: str) -> int:
    try:
        parsed = ipaddress.ip_address(gateway)
    except ValueError:
        parsed = None
    if parsed is None or "%" in gateway or parsed.is_multicast or parsed.is_unspecified:
        raise InvalidRequestError(f"{where}: {gateway[:60]!r} is no address of a gateway; use a form like 10.0.0.1")
    return parsed.version


def _check_unique(field: str, values: Iterable[object]) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise InvalidRequestError(f"two NICs have the same {field} {value!r}; give each its own")
        seen.add(value)
