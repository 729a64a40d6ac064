"""The way of a VM's frames from the container to the wire, hop by hop, as its node sees it. Values only.

The agent reads it, ``path_fault`` finds what is broken, ``onedock net`` draws it.
"""

from dataclasses import dataclass
from enum import StrEnum

from onedock.reconcilers.model import Nic, VmId


class Hop(StrEnum):
    """Places on the way, from the inside out."""

    CONTAINER = "container"
    RULES = "security groups"
    HOST = "host side"
    SPOOFING = "spoofing filter"
    BRIDGE = "bridge"
    UPLINK = "uplink"
    DEVICE = "physical device"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Counters:
    """What a link has counted since it was made; received and sent as the link itself sees it."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_dropped: int = 0
    rx_errors: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_dropped: int = 0
    tx_errors: int = 0


@dataclass(frozen=True, slots=True)
class Queue:
    """The queueing discipline at the root of a link."""

    kind: str
    """``noqueue``, ``tbf``…"""
    dropped: int = 0
    overlimits: int = 0
    """How often a packet had to wait for the limit."""
    backlog_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PathLink:
    """One link on the way."""

    name: str
    up: bool
    carrier: bool
    mtu: int
    kind: str = ""
    """``veth``, ``bridge``, ``vlan``, ``vxlan``…; empty for hardware."""
    mac: str = ""
    master: str = ""
    """The bridge that it is a port of."""
    forwarding: bool = True
    """As a port of a bridge: spanning tree lets frames through."""
    counters: Counters = Counters()
    queue: Queue | None = None
    lost_lately: int = 0
    """Packets lost within ``VmPath.interval_s``: by the link or by its queue."""


@dataclass(frozen=True, slots=True)
class RuleHits:
    """One counter of the filters."""

    rule: str
    """``in.group-100``, ``out.dropped``; of the spoofing filter what was forged: ``mac``, ``ip``…"""
    packets: int
    """Of a group's rule, those that began a flow."""
    bytes: int
    lately: int = 0
    """Packets within ``VmPath.interval_s``."""
    words: str = ""
    """Which rule of the group: ``tcp 22,8000-8080 from 10.0.0.0/24``."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What the VM's kernel knows of a gateway."""

    address: str
    state: str
    """The kernel's word in lower case: ``reachable``, ``stale``, ``incomplete``, ``failed``…"""
    mac: str = ""


@dataclass(frozen=True, slots=True)
class NicPath:
    """The way of one NIC. A link that is None does not exist."""

    nic: Nic
    """As it is wanted."""
    inside: PathLink | None = None
    addresses: tuple[str, ...] = ()
    """CIDR, all that the link has but those of the link itself (fe80::)."""
    gateways: tuple[str, ...] = ()
    """Of default routes by this NIC."""
    neighbours: tuple[Neighbour, ...] = ()
    """Gateways that the VM has spoken to, or tried to."""
    leased: str = ""
    """Address and server of a DHCP lease."""
    waiting: str = ""
    """What only others can give."""
    dns: tuple[str, ...] = ()
    """Name servers of the NIC and of its lease."""
    rules: tuple[RuleHits, ...] | None = None
    """None: no security groups."""
    host: PathLink | None = None
    joined: bool = True
    """Whether ``inside`` and ``host`` are the two ends of one veth."""
    forged: tuple[RuleHits, ...] | None = None
    """None: no spoofing filter."""
    bridge: PathLink | None = None
    other_ports: int = 0
    """Of the bridge, besides this NIC and the way out."""
    vlans: tuple[str, ...] = ()
    """VLANs of the NIC's port, where the bridge filters them: ``10``, ``20 untagged``."""
    uplink: PathLink | None = None
    uplink_to: str = ""
    """VLAN or VXLAN id, group or remotes."""
    device: PathLink | None = None


@dataclass(frozen=True, slots=True)
class Resolver:
    """What the VM's resolv.conf says."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    trouble: str = ""
    """Why it is not what the VM's networks say."""


@dataclass(frozen=True, slots=True)
class VmPath:
    """All NICs of a VM."""

    vm: VmId
    namespace: bool
    nics: tuple[NicPath, ...] = ()
    interval_s: float = 0.0
    """Between the two readings that ``lost_lately`` compares."""
    resolver: Resolver | None = None
    """None: the node does not look after it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken hop."""

    hop: Hop
    reason: str
    remedy: str
