"""Sockets as the tests of rules open them, in the namespace where the thread is."""

import socket
import struct


def bound(place: tuple[str, int]) -> socket.socket:
    """For datagrams of both families."""
    opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.bind(place)
    opened.settimeout(5)
    return opened


def member(group: str) -> socket.socket:
    """For datagrams to a multicast group, on eth0, port 5353."""
    index = socket.if_nametoindex("eth0")
    if ":" in group:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        membership = socket.inet_pton(socket.AF_INET6, group) + struct.pack("=I", index)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    else:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        here = struct.pack("=4s4si", bytes(4), bytes(4), index)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + here[4:])
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("", 5353))
    opened.settimeout(5)
    return opened
