"""A physical device of the node with a namespace at its other end, and what frames reach through it."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.agent import PrivateAgent

PHYSICAL = "odt-phy0"
"""The node's device: one end of a veth, whose other one is ``wire0``."""


@contextmanager
def wired(agent: PrivateAgent) -> Iterator[str]:
    """The namespace at the other end."""
    name = f"{agent.netns}-wire"
    agent.run(["ip", "netns", "add", name])
    try:
        agent.run(["ip", "link", "add", PHYSICAL, "type", "veth", "peer", "wire0", "netns", name])
        agent.run(["ip", "link", "set", "wire0", "up"], netns=name)
        yield name
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            agent.run(["ip", "link", "del", PHYSICAL])
        agent.run(["ip", "netns", "del", name])


def tagged(agent: PrivateAgent, netns: str, link: str, tag: int, own: str, *, protocol: str = "802.1q") -> str:
    """A link for frames of one VLAN with an address, as a guest or a switch outside has them."""
    name = f"{link}.{tag}"
    kind = ["type", "vlan", "protocol", protocol, "id", str(tag)]
    agent.run(["ip", "link", "add", "link", link, "name", name, *kind], netns=netns)
    agent.run(["ip", "address", "add", own, "dev", name], netns=netns)
    agent.run(["ip", "link", "set", name, "up"], netns=netns)
    return name


def reaches(agent: PrivateAgent, netns: str, target: str, *, within: float = 15.0) -> bool:
    """Whether ``target`` answers before the time is over; bridges and neighbours may have to be learnt anew."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.CalledProcessError):
            agent.run(["busybox", "ping", "-c", "1", "-W", "1", target], netns=netns)
            return True
    return False


def is_cut_off(agent: PrivateAgent, netns: str, target: str) -> bool:
    """Whether ``target`` does not answer within a second."""
    return not reaches(agent, netns, target, within=1.0)


def links(agent: PrivateAgent) -> set[str]:
    """Names of the node's links but the one that Open vSwitch's datapath keeps."""
    return {link["ifname"] for link in agent.ip("link")} - {"ovs-system"}
