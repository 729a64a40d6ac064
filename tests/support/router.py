"""A router that advertises a prefix, for as long as it is told: one message at a time, from a namespace's link."""

from tests.support.agent import PrivateAgent

_ADVERTISE = """
import socket, struct, sys
link, prefix, lifetime = sys.argv[1], sys.argv[2], int(sys.argv[3])
flags = 0xC0  # on-link, autonomous
option = struct.pack("!BBBBIII16s", 3, 4, 64, flags, 600, 600, 0, socket.inet_pton(socket.AF_INET6, prefix))
message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0) + option
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    sender.sendto(message, ("ff02::1", 0, 0, socket.if_nametoindex(link)))
"""


def advertise(agent: PrivateAgent, link: str, prefix: str, *, lifetime: int = 600, netns: str | None = None) -> None:
    """Say once that ``prefix`` (a /64) may be used for ten minutes, and this router for ``lifetime`` seconds."""
    agent.run(["python3", "-c", _ADVERTISE, link, prefix, str(lifetime)], netns=netns)
