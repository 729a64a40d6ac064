"""Which packets pass a NIC, told from what is wanted alone: rule by rule, without sets. Pure."""

import ipaddress
from dataclasses import dataclass

from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Direction, Method, Protocol, SecurityRule

_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.ICMP: 1, Protocol.ICMPV6: 58, Protocol.IPSEC: 50}
_NEIGHBOURS = {Direction.INBOUND: {134, 135, 136, 137}, Direction.OUTBOUND: {133, 135, 136}}


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a flow, as far as rules look at it."""

    source: str
    target: str
    protocol: int
    source_port: int = 0
    port: int = 0
    icmp_type: int = 0

    @property
    def family(self) -> int:
        return ipaddress.ip_address(self.source).version


def passes_groups(nic: Nic, direction: Direction, packet: Packet) -> bool:
    """Whether the security groups of a NIC let the packet in or out."""
    if nic.rules is None:
        return True
    if packet.protocol == 58 and packet.family == 6 and packet.icmp_type in _NEIGHBOURS[direction]:
        return True
    if _is_dhcp(nic, direction, packet):
        return True
    return any(rule.direction is direction and _matches(rule, packet) for rule in nic.rules)


def _is_dhcp(nic: Nic, direction: Direction, packet: Packet) -> bool:
    if packet.protocol != 17 or packet.family != 4:
        return False
    if nic.method is Method.DHCP:
        wanted = (67, 68) if direction is Direction.INBOUND else (68, 67)
        return (packet.source_port, packet.port) == wanted
    return direction is Direction.OUTBOUND and nic.spoofing.ip and _discovers(packet)


def _discovers(packet: Packet) -> bool:
    ends = (packet.source, packet.target, packet.protocol, packet.source_port, packet.port)
    return ends == ("0.0.0.0", "255.255.255.255", 17, 68, 67)


def _matches(rule: SecurityRule, packet: Packet) -> bool:
    if rule.protocol is not Protocol.ALL and packet.protocol != _NUMBERS[rule.protocol]:
        return False
    if rule.protocol is Protocol.ICMP and packet.family != 4:
        return False
    if rule.protocol is Protocol.ICMPV6 and packet.family != 6:
        return False
    if rule.ports and not any(first <= packet.port <= last for first, last in rule.ports):
        return False
    if rule.icmp_type is not None and rule.icmp_type != packet.icmp_type:
        return False
    other = ipaddress.ip_address(packet.source if rule.direction is Direction.INBOUND else packet.target)
    return not rule.peers or any(
        ipaddress.ip_address(first).version == other.version
        and int(ipaddress.ip_address(first)) <= int(other) <= int(ipaddress.ip_address(last))
        for first, last in rule.peers
    )
