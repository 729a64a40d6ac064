"""Name servers and search domains of a VM, merged from its NICs. Pure; both sides of the agent's socket use it."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from onedock.reconcilers.model import Network

_DOMAIN = re.compile(r"\.|[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


@dataclass(frozen=True, slots=True)
class Names:
    """What a resolver is told."""

    servers: tuple[str, ...] = ()
    """Addresses, those to be asked first in front."""
    search: tuple[str, ...] = ()
    """Domains that names are looked for in."""


def merge(network: Network, leased: Iterable[Names] = ()) -> Names:
    """Those of the NICs in the order of their ids, then ``leased`` ones, then the network's own; each once."""
    ordered = sorted(network.nics, key=lambda nic: nic.index)
    parts = (*(Names(nic.dns, nic.search) for nic in ordered), *leased, Names(network.dns or ()))
    return Names(
        tuple(dict.fromkeys(server for part in parts for server in part.servers)),
        tuple(dict.fromkeys(domain for part in parts for domain in part.search)),
    )


def is_domain(text: str) -> bool:
    """Whether it can stand in a resolver's configuration as a search domain."""
    return _DOMAIN.fullmatch(text) is not None


def is_server(text: str) -> bool:
    """Whether it can stand there as a name server: an address without a zone, which may be any text."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
