"""Security groups: the rules of a VM, and which of them hold for a NIC.

oned has checked the rules that come from it (SecurityGroup.cc) and expanded those for a network, one per address
range, whose addresses replace NETWORK_ID's meaning (protocol reference 6.5). A rule that names a network or a range and
has no address left (a network of MACs only) lets nobody through: it must never become one for everybody.
"""

import ipaddress
from collections.abc import Iterable, Iterator

from onedock.controller.documents import Attributes, parse_id
from onedock.controller.networks.values import Source, address
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule

DRIVERS = frozenset({"fw", "802.1Q", "vxlan"})
"""Those whose stock scripts apply groups (their ``post`` and ``update_sg``)."""
MAX_RULES = 8192
"""Of a NIC."""
MAX_PORTS = 15
"""Parts of RANGE; oned takes no more."""
ALLOW_ALL = (
    SecurityRule(0, Direction.OUTBOUND, Protocol.ALL),
    SecurityRule(0, Direction.INBOUND, Protocol.ALL),
)
"""What a NIC without groups gets, as in the stock driver (sg_driver.rb)."""

_TARGETS = ("IP", "IP6_GLOBAL", "IP6_ULA", "IP6")
_WITH_PORTS = frozenset({Protocol.TCP, Protocol.UDP})
_TYPES = {Protocol.ICMP: "ICMP_TYPE", Protocol.ICMPV6: "ICMPV6_TYPE"}


def rules_of(nic: Source, rules: Iterable[Attributes]) -> tuple[SecurityRule, ...] | None:
    """The rules of a NIC's groups, those that differ in their peers only joined; None where groups do not apply.

    Raises:
        TerminalError: a group or rule that cannot be read, or more than can be used.
    """
    if nic.text("VN_MAD") not in DRIVERS:
        return None
    groups = _groups(nic)
    if not groups:
        return ALLOW_ALL
    own = [rule for rule in rules if _id(rule.get("SECURITY_GROUP_ID", "")) in groups]
    if len(own) > MAX_RULES:
        raise nic.refusal(f"its security groups have {len(own)} rules; at most {MAX_RULES} are possible; join some")
    return tuple(_joined(_rule(attributes) for attributes in own))


def _groups(nic: Source) -> frozenset[int]:
    words = [word.strip() for word in nic.text("SECURITY_GROUPS").split(",") if word.strip()]
    return frozenset(_id(word) for word in words)


def _id(text: str) -> int:
    group = parse_id(text.strip())
    if group is None:
        raise TerminalError(f"a security group is not a number: {text[:40]!r}")
    return group


def _joined(rules: Iterable[tuple[SecurityRule, bool]]) -> Iterator[SecurityRule]:
    found: dict[SecurityRule, dict[tuple[str, str], None] | None] = {}
    for rule, targeted in rules:
        key = SecurityRule(rule.group, rule.direction, rule.protocol, rule.ports, rule.icmp_type)
        if not targeted:
            found[key] = None
        elif (peers := found.setdefault(key, {})) is not None:
            peers.update(dict.fromkeys(rule.peers))
    for key, peers in found.items():
        if peers is None:
            yield key
        elif peers:
            yield SecurityRule(key.group, key.direction, key.protocol, key.ports, key.icmp_type, tuple(peers))


def _rule(attributes: Attributes) -> tuple[SecurityRule, bool]:
    """A rule, and whether it speaks of certain addresses only (of which there may be none)."""

    def text(name: str) -> str:
        return attributes.get(name, "").strip()

    group = _id(text("SECURITY_GROUP_ID"))
    where = f"security group {group}"
    try:
        direction = Direction(text("RULE_TYPE").lower())
    except ValueError:
        raise TerminalError(f"{where}: RULE_TYPE must be inbound or outbound, not {text('RULE_TYPE')[:20]!r}") from None
    try:
        protocol = Protocol(text("PROTOCOL").lower())
    except ValueError:
        raise TerminalError(
            f"{where}: PROTOCOL={text('PROTOCOL')[:20]!r} is unknown; use TCP, UDP, ICMP, ICMPV6, …"
        ) from None
    if text("RANGE") and protocol not in _WITH_PORTS:
        raise TerminalError(f"{where}: RANGE is for TCP and UDP only, not {protocol.name}")
    rule = SecurityRule(
        group,
        direction,
        protocol,
        ports=tuple(_ports(where, text("RANGE"))),
        icmp_type=_icmp_type(where, text(_TYPES[protocol])) if protocol in _TYPES else None,
        peers=tuple(_peers(where, attributes)),
    )
    targeted = any(text(name) for name in (*_TARGETS, "SIZE", "NETWORK_ID"))
    return rule, targeted


def _ports(where: str, text: str) -> Iterator[tuple[int, int]]:
    """RANGE: ``22,80,1000:2000``."""
    parts = text.split(",", MAX_PORTS) if text else []
    if len(parts) > MAX_PORTS:
        raise TerminalError(f"{where}: RANGE has more than {MAX_PORTS} parts; use several rules")
    for part in parts:
        ends = [parse_id(end.strip()) for end in part.split(":", 2)]
        first, last = ends[0], ends[-1]
        if len(ends) > 2 or first is None or last is None or not first <= last <= 65535:
            raise TerminalError(f"{where}: RANGE must be ports like 22,80,1000:2000, not {part[:40]!r}")
        yield first, last


def _icmp_type(where: str, text: str) -> int | None:
    if not text:
        return None
    number = parse_id(text)
    if number is None or number > 255:
        raise TerminalError(f"{where}: the ICMP type must be a number up to 255, not {text[:20]!r}")
    return number


def _peers(where: str, attributes: Attributes) -> Iterator[tuple[str, str]]:
    size_text = attributes.get("SIZE", "").strip()
    size = parse_size(size_text)
    for name in _TARGETS:
        if text := attributes.get(name, "").strip():
            if size is None:
                raise TerminalError(f"{where}: {name} needs SIZE, the number of addresses, not {size_text[:20]!r}")
            if size:
                first = ipaddress.ip_address(address(text, f"{where}: {name}"))
                last = int(first) + size - 1
                if last >= 2**first.max_prefixlen:
                    raise TerminalError(f"{where}: {size} addresses from {first} on do not exist; make SIZE smaller")
                yield str(first), str(type(first)(last))


def parse_size(text: str) -> int | None:
    """SIZE, an unsigned number of 32 bits for oned; None when it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else None
