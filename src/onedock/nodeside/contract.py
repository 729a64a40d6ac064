"""What of a network an agent has to know: one of an earlier release ignores the rest, and makes something else.

A VLAN would be a plain port of the bridge, a filtered NIC an open one, and the answer would never be what was asked
for. So an agent says which form of ``Network`` it knows (``GET /health``), and is asked for nothing beyond. Pure.
"""

from collections.abc import Collection, Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from onedock.reconcilers.model import Network, Nic

FORM = 3
"""The form of ``Network`` that this release knows. A field that comes anew gets the next number, and a line below."""
FIRST_FORM = 1
"""That of agents which do not say it: NICs with MAC, addresses, gateways and MTU in Linux bridges."""

SINCE: dict[str, tuple[int, str]] = {
    "switch": (2, "Open vSwitch"),
    "ovs": (2, "Open vSwitch"),
    "uplink": (2, "VLAN or VXLAN"),
    "trunk": (2, "VLAN trunks"),
    "rules": (2, "security groups"),
    "spoofing": (2, "filters against spoofing"),
    "inbound": (2, "bandwidth limits"),
    "outbound": (2, "bandwidth limits"),
    "method": (2, "METHOD"),
    "method6": (2, "IP6_METHOD"),
    "routes": (2, "ROUTES"),
    "metric": (2, "METRIC"),
    "metric6": (2, "IP6_METRIC"),
    "bridge_options": (2, "BRIDGE_CONF"),
    "keep_bridge": (2, "bridges that stay when they are empty"),
    "probe": (2, "the search for addresses that are taken"),
    "dns": (3, "name servers"),
    "search": (3, "search domains"),
    "leased": (3, "name servers of a DHCP server"),
}
"""Fields of ``Nic`` and ``Network`` that the first form does not have: since when, and what they are called."""


def beyond(network: Network, form: int) -> tuple[str, ...]:
    """What the network asks for that an agent of this form does not know; empty: it knows all of it."""
    later = {name: words for name, (since, words) in SINCE.items() if since > form}
    parts: tuple[Network | Nic, ...] = (network, *network.nics)
    used = {name for part in parts for name in _used(part, later)}
    return tuple(dict.fromkeys(words for name, words in later.items() if name in used))


def _used(part: Network | Nic, names: Collection[str]) -> Iterator[str]:
    for one in fields(part):
        if one.name in names and getattr(part, one.name) != _default(one):
            yield one.name


def _default(one: Field[Any]) -> Any:
    return one.default_factory() if one.default_factory is not MISSING else one.default
