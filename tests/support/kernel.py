"""Features of the kernel that not every machine has: what a test needs, and whether it is here.

A test that says ``requires("8021q")`` runs on this machine when the feature is there, else in a guest
(``tests.support.guest``), where all of them are. Nothing is loaded or changed to find out.
"""

import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.guest.reporter import WIRE


def requires(*features: str) -> pytest.MarkDecorator:
    """Mark of a test, class or module that needs these ``FEATURES``."""
    if unknown := set(features) - set(FEATURES):
        raise ValueError(f"no such feature of a kernel: {', '.join(unknown)}; there are {', '.join(FEATURES)}")
    return pytest.mark.kernel(*features)


def needed(item: pytest.Item) -> set[str]:
    """The features that a test requires."""
    return {feature for mark in item.iter_markers("kernel") for feature in mark.args}


@functools.cache
def is_here(feature: str) -> bool:
    """Whether this machine has a feature."""
    return FEATURES[feature]()


def _works(*commands: str) -> bool:
    """Whether root can do this in a network namespace that ends with it."""
    if os.geteuid() != 0:
        return False
    argv = ["unshare", "--net", "sh", "-ec", "\n".join(commands)]
    return subprocess.run(argv, check=False, capture_output=True, timeout=30).returncode == 0


def _has_vlans() -> bool:
    return _works("ip link add one type veth peer two", "ip link add link one name one.5 type vlan id 5")


def _has_open_vswitch() -> bool:
    # Never that of the machine itself, which may be at work.
    return WIRE in os.environ and Path("/sys/module/openvswitch").exists()


def _has_control_groups_2() -> bool:
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def _has_systemd() -> bool:
    # Never on the machine itself: the tests start and stop units.
    return WIRE in os.environ and Path("/run/systemd/system").exists()


def _has_policing() -> bool:
    return _works(
        "ip link add one type veth peer two",
        "tc qdisc add dev one clsact",
        "tc filter add dev one ingress matchall action police rate 1mbit burst 10k drop",
    )


def _has_bridge_conntrack() -> bool:
    rule = "add rule bridge t c ct state established accept"
    return _works(f"nft 'add table bridge t; add chain bridge t c {{ type filter hook forward priority 0; }}; {rule}'")


FEATURES: dict[str, Callable[[], bool]] = {
    "8021q": _has_vlans,
    "openvswitch": _has_open_vswitch,
    "cgroup v2": _has_control_groups_2,
    "act_police": _has_policing,
    "bridge conntrack": _has_bridge_conntrack,
    "systemd": _has_systemd,
}
