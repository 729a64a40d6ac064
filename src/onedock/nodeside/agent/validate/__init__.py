"""Is a wanted network something that a kernel could be asked for? Pure; nothing is looked up on the node."""

import ipaddress
import re
from collections.abc import Iterator

from onedock.nodeside.agent.seen import metric
from onedock.nodeside.agent.validate.layer3 import check_layer3, check_name_servers
from onedock.nodeside.agent.validate.uplink import check_switching
from onedock.nodeside.agent.validate.words import InvalidRequestError, check_link_name, check_unique
from onedock.reconcilers.model import Network, Nic

__all__ = ["MAX_NICS", "MAX_VM", "InvalidRequestError", "check_container", "check_network", "check_vm"]

MAX_VM = 2**30 - 1
"""Link groups carry the VM id in their lower 30 bits."""
MAX_NICS = 256

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


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
    check_name_servers("the VM", network.dns or ())
    for nic in network.nics:
        _check_nic(nic)
    check_unique("index", [nic.index for nic in network.nics])
    check_unique("name", [nic.name for nic in network.nics])
    check_unique("host_name", [nic.host_name for nic in network.nics])
    _check_shared(network)
    _check_metrics(network)


def _check_nic(nic: Nic) -> None:
    where = f"NIC {nic.index}"
    if not 0 <= nic.index <= 0xFFFF:
        raise InvalidRequestError(f"{nic.index} is no NIC index; it must be from 0 to 65535")
    check_link_name(where, "name", nic.name)
    check_link_name(where, "host_name", nic.host_name)
    check_link_name(where, "bridge", nic.bridge)
    if nic.phydev is not None:
        check_link_name(where, "phydev", nic.phydev)
    if not _MAC.fullmatch(nic.mac) or int(nic.mac[:2], 16) & 1 or set(nic.mac) <= {"0", ":"}:
        raise InvalidRequestError(f"{where}: {nic.mac[:40]!r} is no unicast MAC; use a form like 02:00:c0:a8:00:01")
    versions = check_layer3(where, nic)
    check_switching(where, nic)
    least = 1280 if 6 in versions else 68
    if nic.mtu is not None and not least <= nic.mtu <= 65535:
        raise InvalidRequestError(f"{where}: MTU {nic.mtu} is impossible; with its addresses it is {least} to 65535")


def _check_shared(network: Network) -> None:
    """Bridges, devices and uplinks mean the same for all NICs, and are no NIC's own."""
    owners: dict[str, str] = {}
    uplinks: dict[str, object] = {}
    for nic in network.nics:
        for name in (nic.phydev, nic.uplink.name if nic.uplink is not None else None):
            if name is not None and owners.setdefault(name, nic.bridge) != nic.bridge:
                raise InvalidRequestError(
                    f"physical device {name} cannot be in {owners[name]} and {nic.bridge}; set one"
                )
        if uplinks.setdefault(nic.bridge, nic.uplink) != nic.uplink:
            raise InvalidRequestError(f"bridge {nic.bridge} has two different uplinks; give all its NICs the same one")
    shared = {name for nic in network.nics for name in _shared_names(nic)}
    for nic in network.nics:
        if nic.host_name in shared:
            raise InvalidRequestError(f"{nic.host_name} is host side of NIC {nic.index} and bridge at once; rename one")


def _shared_names(nic: Nic) -> Iterator[str]:
    yield nic.bridge
    if nic.phydev is not None:
        yield nic.phydev
    if nic.uplink is not None:
        yield nic.uplink.name
        yield nic.uplink.phydev


def _check_metrics(network: Network) -> None:
    """The kernel takes no two routes to one destination with one metric, whatever their devices."""
    seen: dict[tuple[str, int], Nic] = {}
    for nic in network.nics:
        routes = [("default", gateway) for gateway in nic.gateways]
        routes += [(str(ipaddress.ip_network(one.destination, strict=False)), one.gateway) for one in nic.routes]
        for destination, gateway in routes:
            number = metric(nic, gateway)
            family = f"{destination} by IPv{ipaddress.ip_address(gateway).version}"
            if (other := seen.setdefault((family, number), nic)) is not nic:
                raise InvalidRequestError(
                    f"NIC {other.index} and NIC {nic.index} both have a route to {family} of metric {number};"
                    " give them different METRICs"
                )
