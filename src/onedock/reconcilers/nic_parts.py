"""What a NIC may have besides its name, MAC and addresses: uplink, switch port, routes, bandwidth, filters.

Values only. The controller builds them from OpenNebula's attributes (docs/networking.md has the table), the node agent
makes them so. Every field has a default that means "not asked for", so that what an earlier release kept can be read.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Method(StrEnum):
    """How a NIC gets its addresses of one family (METHOD and IP6_METHOD of OpenNebula's contextualization)."""

    STATIC = "static"
    """Those of the lease."""
    DHCP = "dhcp"
    """By a DHCP client that the node runs in the VM's namespace; IPv4 only."""
    AUTO = "auto"
    """By router advertisements (SLAAC), besides those of the lease; IPv6 only."""
    SKIP = "skip"
    """None: the link is up, the guest does the rest itself."""
    DISABLE = "disable"
    """None, and the family is switched off on the NIC; IPv6 only."""


class Switch(StrEnum):
    """What a NIC is plugged into (BRIDGE_TYPE)."""

    LINUX = "linux"
    OPENVSWITCH = "openvswitch"


@dataclass(frozen=True, slots=True)
class Vlan:
    """A tagged link of a physical device that is a port of the bridge: ``802.1Q``, or the outer tag of ``ovswitch``."""

    name: str
    """``<phydev>.<vlan id>``."""
    phydev: str
    vlan_id: int
    mtu: int | None = None
    options: tuple[tuple[str, str], ...] = ()
    """IP_LINK_CONF: a flag of IFLA_VLAN_FLAGS (``gvrp``) with 0 or 1, or ``protocol`` with an Ethernet type."""
    kind: Literal["vlan"] = "vlan"


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A VXLAN tunnel end that is a port of the bridge."""

    name: str
    phydev: str
    vni: int
    group: str | None = None
    """Multicast group; None: unicast to ``remotes`` (or to whoever a routing daemon names)."""
    remotes: tuple[str, ...] = ()
    """Addresses of the other nodes, each gets a copy of what has no known place (head-end replication)."""
    local: str | None = None
    """Source address of the tunnel; None: the kernel takes that of ``phydev``."""
    tep: Literal["dev", "local_ip"] = "dev"
    """``local_ip``: bound to the first address of ``phydev``, which only the node knows, and not to the device."""
    learning: bool = True
    ttl: int | None = None
    port: int = 8472
    """UDP; 8472 is what Linux and the stock driver use without being told."""
    mtu: int | None = None
    options: tuple[tuple[str, str], ...] = ()
    """IP_LINK_CONF: what follows ``IFLA_VXLAN_``, in lower case (``udp_csum``), with a number."""
    kind: Literal["vxlan"] = "vxlan"

    @property
    def overhead(self) -> int:
        """Bytes that a frame has more on the wire, over IPv4 or IPv6."""
        return 70 if any(":" in end for end in (self.local, self.group, *self.remotes) if end) else 50


Uplink = Vlan | Vxlan


@dataclass(frozen=True, slots=True)
class TrunkPort:
    """VLAN filter of a Linux bridge's port: what passes tagged, and what untagged frames belong to."""

    tagged: tuple[int, ...] = ()
    """VLAN_TAGGED_ID of ``bridge``, CVLANS of ``802.1Q``; expanded and sorted."""
    untagged: int | None = None
    """The port's own VLAN (pvid, untagged on the way out); None: the bridge's default."""


@dataclass(frozen=True, slots=True)
class OvsPort:
    """The port of an Open vSwitch bridge, as ``ovs-vsctl set Port`` takes it."""

    tag: int | None = None
    trunks: tuple[int, ...] = ()
    """Empty: with a tag none, without one all."""
    cvlans: tuple[int, ...] = ()
    """Inner VLANs of a ``dot1q-tunnel`` port (QinQ)."""
    qinq_type: str = "802.1q"
    bridge_options: tuple[tuple[str, str], ...] = ()
    """OVS_BRIDGE_CONF, set when the bridge is created by us."""


@dataclass(frozen=True, slots=True)
class Route:
    """A static route besides the default ones (ROUTES)."""

    destination: str
    """CIDR."""
    gateway: str


@dataclass(frozen=True, slots=True)
class Leased:
    """What a NIC has for a time, by DHCP."""

    address: str
    """CIDR, IPv4."""
    routes: tuple[Route, ...] = ()
    """The default one is ``0.0.0.0/0``; an empty gateway: on the link itself."""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Limits of one direction, in bytes. OpenNebula's KB are 1024 bytes, as libvirt takes them."""

    average: int
    """Bytes per second."""
    peak: int = 0
    """Bytes per second at which a burst may pass; 0: no limit of its own."""
    burst: int = 0
    """Bytes that may pass at peak speed; 0: what the average needs to be reached."""


class Direction(StrEnum):
    """Seen from the VM (RULE_TYPE)."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Protocol(StrEnum):
    """PROTOCOL of a security group's rule."""

    ALL = "all"
    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    ICMPV6 = "icmpv6"
    IPSEC = "ipsec"
    """ESP, as in the stock driver."""


@dataclass(frozen=True, slots=True)
class SecurityRule:
    """One rule of a security group: what it describes is let through. All fields that are set must match."""

    group: int
    """SECURITY_GROUP_ID, to be shown."""
    direction: Direction
    protocol: Protocol
    ports: tuple[tuple[int, int], ...] = ()
    """Destination ports, both ends included; empty: all. TCP and UDP only."""
    icmp_type: int | None = None
    peers: tuple[tuple[str, str], ...] = ()
    """Ranges of addresses of the other side, first and last, of either family; empty: everybody."""


@dataclass(frozen=True, slots=True)
class Spoofing:
    """What a VM may not forge (FILTER_MAC_SPOOFING, FILTER_IP_SPOOFING)."""

    mac: bool = False
    """Frames, ARP and neighbour discovery carry the NIC's own MAC only."""
    ip: bool = False
    """Packets, ARP and neighbour discovery carry the NIC's own addresses only."""
    addresses: tuple[str, ...] = ()
    """Further addresses of the VM that the node does not configure: EXTERNAL aliases, method ``skip``."""
