"""A rule of a security group in words: they name its counters in the kernel, and are shown to people as they are."""

from zlib import crc32

from onedock.nodeside.agent.firewall.operands import packed
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule

MOST = 120
"""Characters; nftables takes comments of at most 127."""
_NAMES = {Protocol.ALL: "all", Protocol.IPSEC: "esp"}
_SIDES = {Direction.INBOUND: "from", Direction.OUTBOUND: "to"}


def in_words(rule: SecurityRule) -> str:
    """Such as ``tcp 22,8000-8080 from 10.0.0.0/24``; rules that let different things pass have different words."""
    parts = [_NAMES.get(rule.protocol, str(rule.protocol))]
    if rule.ports:
        parts.append(",".join(str(first) if first == last else f"{first}-{last}" for first, last in rule.ports))
    if rule.icmp_type is not None:
        parts.append(f"type {rule.icmp_type}")
    parts += [_SIDES[rule.direction], ", ".join(_peer(*ends) for ends in rule.peers) or "anybody"]
    words = " ".join(parts)
    if len(words) <= MOST:
        return words
    mark = f"... ({crc32(words.encode()):08x})"
    return words[: MOST - len(mark)] + mark


def _peer(first: str, last: str) -> str:
    """An address, a subnet where it is one, or a range."""
    if first == last:
        return first
    address = packed(first)
    begin = int.from_bytes(address)
    size = int.from_bytes(packed(last)) - begin + 1
    if size & (size - 1) == 0 and begin % size == 0:
        return f"{first}/{8 * len(address) - size.bit_length() + 1}"
    return f"{first}-{last}"
