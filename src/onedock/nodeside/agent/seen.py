"""What the kernel shows of one VM's network, as values.

Ownership is the link group: the kernel sets it in the message that creates a link, so that no crash can leave
a link of ours unmarked. The ``ifalias`` says the same to people, but can only be set afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from onedock.nodeside.agent.ovs_rows import OpenVswitch
from onedock.nodeside.agent.parsed import ip_address, ip_interface
from onedock.nodeside.agent.steps.rules import Scope
from onedock.nodeside.agent.steps.uplink import PortVlan
from onedock.reconcilers.model import Nic, VmId

BRIDGE_GROUP = 0x7FFFFFFF
"""The link group of what VMs share: bridges and uplinks."""
BRIDGE_ALIAS = "onedock"
SOURCE_TABLES = 1000
"""The routing table of NIC 0 for what has its addresses as source; that of NIC 1 is the next one."""
SOURCE_PRIORITY = 1000
"""Of the rules that lead there; rules of other priorities are not ours."""


SourceRoute = tuple[int, str, str]
"""(table, destination, gateway) of a route for packets of certain sources; a neighbour's gateway is empty."""
SourceRule = tuple[str, int]
"""(source address, table)."""


def vm_group(vm: VmId) -> int:
    """The link group of all host sides of a VM's NICs."""
    return 0x40000000 | vm


def vm_alias(vm: VmId) -> str:
    """The ifalias of all host sides of a VM's NICs."""
    return f"onedock:{vm}"


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """What limits a link: sizes in bytes, rates in bytes per second."""

    rate: int
    burst: int
    """What may pass at once, or at the peak rate."""
    queue: int
    """What may wait."""
    peak: int = 0
    """0: no peak rate."""
    peak_burst: int = 0


@dataclass(frozen=True, slots=True)
class HostLink:
    """A link in the agent's own namespace."""

    name: str
    index: int
    kind: str = ""
    """``bridge``, ``veth``…; empty for hardware."""
    group: int = 0
    alias: str = ""
    mtu: int = 1500
    up: bool = False
    master: str | None = None
    """Name of the bridge that it is a port of."""
    peer: int = 0
    """Index of the other end of a veth, in the namespace where that is; of the device below an uplink."""
    attributes: frozenset[tuple[str, str]] = frozenset()
    """Of an uplink: what follows ``IFLA_VLAN_`` or ``IFLA_VXLAN_`` in lower case, with its value."""
    remotes: frozenset[str] = frozenset()
    """Of a VXLAN link: nodes that get a copy of what has no known place, as far as somebody set them by hand."""
    filters_vlans: bool = False
    """Of a bridge; only looked at where it matters."""
    default_vlan: int = 1
    """Of a bridge that filters: what untagged frames of a new port belong to; 0: to none."""
    vlans: frozenset[PortVlan] | None = None
    """What passes a port of a bridge; only looked at where it matters."""
    limited: bool = False
    """Something but the default queueing discipline is at its root."""
    bucket: TokenBucket | None = None
    """What that is, when it is a token bucket."""


@dataclass(frozen=True, slots=True)
class InnerLink:
    """A link in the VM's namespace."""

    name: str
    index: int
    kind: str = ""
    mac: str = ""
    mtu: int = 1500
    up: bool = False
    carrier: bool = False
    peer: int = 0
    """Index of the other end of a veth, in the agent's own namespace."""
    addresses: tuple[str, ...] = ()
    """CIDR, canonical, permanent ones only, in the kernel's order."""
    advertised: tuple[str, ...] = ()
    """CIDR, IPv6, those for a time only: made of what a router has said."""
    routers: tuple[str, ...] = ()
    """Default gateways that have advertised themselves, the preferred one first."""
    gateways: tuple[tuple[str, int], ...] = ()
    """(gateway, metric) of static default routes."""
    routes: tuple[tuple[str, str, int], ...] = ()
    """(destination, gateway, metric) of other static routes."""
    connected: frozenset[str] = frozenset()
    """Subnets that the kernel has a route to because of an address."""
    source_routes: frozenset[SourceRoute] = frozenset()
    """All by this link in tables from ``SOURCE_TABLES`` on."""
    link_local: bool = False
    """Whether it has an IPv6 address of its link."""
    ipv6: tuple[tuple[str, int], ...] = ()
    """Sysctls of the link by name; none without IPv6."""
    ipv4: tuple[tuple[str, int], ...] = (("arp_ignore", 0), ("arp_announce", 0))
    limited: bool = False
    bucket: TokenBucket | None = None
    """As for ``HostLink``."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that a plan for one VM has to know."""

    namespace: bool = False
    loopback_up: bool = False
    inner: tuple[InnerLink, ...] = ()
    """Without the loopback."""
    source_rules: frozenset[SourceRule] = frozenset()
    """Of our priority; only looked at where they can matter."""
    host: Mapping[str, HostLink] = field(default_factory=dict)
    """Wanted bridges, physical devices, uplinks and host sides, and peers of ``inner``, as far as they exist."""
    uplinks: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Uplinks of ours by the bridge that they are ports of, for bridges that are to have one."""
    own_addresses: tuple[tuple[int, str], ...] = ()
    """(index of the link, address) of the node itself; only looked at for tunnels without a multicast group."""
    ovs: OpenVswitch | None = None
    """Only looked at when one of its bridges is or was wanted."""
    rules: Mapping[Scope, str] = field(default_factory=dict)
    """Digests of the rulesets that are loaded, ``DAMAGED`` for one that is not as it was loaded."""

    def host_side(self, inner: InnerLink, vm: VmId) -> HostLink | None:
        """Our end of a veth in the namespace; None when the link was not made by ONEDock for this VM."""
        for link in self.host.values():
            if link.index == inner.peer and link.peer == inner.index and link.group == vm_group(vm):
                return link
        return None


def canonical_address(address: str) -> str:
    """The spelling of a CIDR string that the kernel's answers have."""
    return str(ip_interface(address))


def canonical_gateway(gateway: str) -> str:
    """The spelling of an address that the kernel's answers have."""
    return str(ip_address(gateway))


def metric(nic: Nic, address: str) -> int:
    """Metric of a NIC's routes to or by ``address``: the lowest NIC_ID wins, and no NIC disturbs another's."""
    asked = nic.metric6 if ":" in address else nic.metric
    return 100 + nic.index if asked is None else asked
