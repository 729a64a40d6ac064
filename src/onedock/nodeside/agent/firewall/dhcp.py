"""What a DHCP client for IPv4 says and hears, as conditions of rules."""

from onedock.nodeside.agent.firewall.document import field, is_, meta

NOBODY = "0.0.0.0"  # noqa: S104 - the address of who has none

SERVER, CLIENT = 67, 68
"""Ports."""

DISCOVER = (
    is_(field("ip", "saddr"), NOBODY),
    is_(field("ip", "daddr"), "255.255.255.255"),
    is_(field("udp", "sport"), CLIENT),
    is_(field("udp", "dport"), SERVER),
)
"""A client without an address asks everybody."""

ASK = (is_(meta("nfproto"), "ipv4"), is_(field("udp", "sport"), CLIENT), is_(field("udp", "dport"), SERVER))
"""A client asks anybody, as it does to renew its lease."""

ANSWER = (is_(meta("nfproto"), "ipv4"), is_(field("udp", "sport"), SERVER), is_(field("udp", "dport"), CLIENT))
