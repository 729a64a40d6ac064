"""What the agent refuses of a wanted network before any kernel is asked: each field's limits, with cause and remedy."""

from dataclasses import replace
from typing import Any

import pytest

from onedock.nodeside.agent.validate import InvalidRequestError, check_network
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import (
    Bandwidth,
    Direction,
    Method,
    OvsPort,
    Protocol,
    Route,
    SecurityRule,
    Spoofing,
    Switch,
    TrunkPort,
    Vlan,
    Vxlan,
)

VM = VmId(22001)
NIC = Nic(0, "eth0", f"one-{VM}-0", "02:00:0a:00:00:01", "br0", ("10.0.0.1/24",), ("10.0.0.254",))
VLAN = Vlan("p0.7", "p0", 7)
VXLAN = Vxlan("p0.7", "p0", 7, group="239.0.0.7")
RULE = SecurityRule(1, Direction.INBOUND, Protocol.TCP, ((22, 22),), None, (("10.0.0.0", "10.0.0.255"),))

FULL = replace(
    NIC,
    addresses=("10.0.0.1/24", "fd00::1/64"),
    gateways=("10.0.0.254", "fe80::1"),
    uplink=replace(VXLAN, local="192.0.2.1", ttl=16, options=(("udp_csum", "1"),)),
    bridge_options=(("ageing_time", "30000"), ("stp_state", "0")),
    trunk=TrunkPort((1, 4094), untagged=7),
    metric=1,
    metric6=2**32 - 1,
    method6=Method.AUTO,
    routes=(Route("10.8.0.0/16", "10.0.0.9"), Route("fd01::/48", "fd00::9")),
    inbound=Bandwidth(1024, 2**32 - 1, 2**33),
    rules=(RULE, SecurityRule(2, Direction.OUTBOUND, Protocol.ICMPV6, icmp_type=255)),
    spoofing=Spoofing(mac=True, ip=True, addresses=("10.0.0.9", "fe80::7")),
)


def refused(nic: Nic, cause: str) -> None:
    with pytest.raises(InvalidRequestError, match=cause) as caught:
        check_network(Network(VM, (nic,)))
    message = str(caught.value)
    assert cause in message[:100], "the cause is among what a user sees"
    assert ";" in message, "a remedy follows"


def test_what_a_kernel_can_do_passes() -> None:
    check_network(Network(VM, (FULL,)))
    check_network(Network(VM, (replace(NIC, uplink=replace(VLAN, mtu=9000, options=(("protocol", "34984"),))),)))
    port = OvsPort(tag=0, trunks=(4095,), cvlans=(1,), qinq_type="802.1ad")
    check_network(Network(VM, (replace(NIC, switch=Switch.OPENVSWITCH, ovs=port),)))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"uplink": replace(VLAN, name="p0.7/..")}, "is no name for a link"),
        ({"uplink": replace(VLAN, phydev="lo")}, "is no name for a link"),
        ({"uplink": replace(VLAN, vlan_id=4095)}, "VLAN id 4095 is impossible"),
        ({"uplink": replace(VLAN, vlan_id=0)}, "VLAN id 0 is impossible"),
        ({"uplink": replace(VLAN, mtu=1)}, "MTU of p0.7 1 is impossible"),
        ({"uplink": replace(VLAN, options=(("egress_qos", "1"),))}, "'egress_qos' is no option of a VLAN link"),
        ({"uplink": replace(VLAN, options=(("gvrp", "2"),))}, "VLAN link option gvrp is a number to 1"),
        ({"uplink": replace(VLAN, options=(("protocol", "2048"),))}, "a VLAN's protocol"),
        ({"uplink": replace(VLAN, name="br0")}, "br0 is uplink and something else"),
        ({"uplink": replace(VXLAN, vni=2**24)}, "VXLAN id 16777216 is impossible"),
        ({"uplink": replace(VXLAN, port=0)}, "VXLAN port 0 is impossible"),
        ({"uplink": replace(VXLAN, ttl=256)}, "VXLAN TTL 256 is impossible"),
        ({"uplink": replace(VXLAN, group="10.0.0.1")}, "'10.0.0.1' is no address of a multicast group"),
        ({"uplink": replace(VXLAN, remotes=("10.0.0.1",))}, "multicast group and remotes"),
        ({"uplink": replace(VXLAN, group=None, remotes=("10.0.0.1", "fd00::1"))}, "IPv4 and IPv6 addresses"),
        ({"uplink": replace(VXLAN, group=None, remotes=("node7",))}, "'node7' is no address of a VXLAN remote"),
        ({"uplink": replace(VXLAN, local="fe80::1%p0")}, "is no address of a tunnel end"),
        ({"uplink": replace(VXLAN, options=(("gbp", "1"),))}, "'gbp' is no option of a VXLAN link"),
        ({"uplink": replace(VXLAN, options=(("tos", "256"),))}, "VXLAN link option tos is a number to 255"),
        ({"bridge_options": (("prio", "1"),)}, "'prio' is no option of a bridge"),
        ({"bridge_options": (("priority", "\u0661"),)}, "bridge option priority is a number"),
        ({"trunk": TrunkPort((0,))}, "VLAN id 0 is impossible"),
        ({"trunk": TrunkPort((), untagged=4095)}, "VLAN id 4095 is impossible"),
        ({"trunk": TrunkPort((7,)), "switch": Switch.OPENVSWITCH}, "a trunk is for Linux bridges"),
        ({"ovs": OvsPort()}, "an Open vSwitch port on a Linux bridge"),
        ({"ovs": OvsPort(tag=4096), "switch": Switch.OPENVSWITCH}, "VLAN id 4096 is impossible"),
        ({"ovs": OvsPort(qinq_type="x"), "switch": Switch.OPENVSWITCH}, "'x' is no kind of VLAN tag"),
        ({"metric": 0}, "metric 0 is impossible"),
        ({"metric6": 2**32}, "metric6 4294967296 is impossible"),
        ({"method": Method.AUTO}, "method auto is not for IPv4"),
        ({"method6": Method.DHCP}, "method dhcp is not for IPv6"),
        ({"method6": Method.DISABLE, "addresses": ("fd00::1/64",)}, "with method disable"),
        ({"routes": (Route("10.8.0.0/33", "10.0.0.1"),)}, "is no destination of a route"),
        ({"routes": (Route("0.0.0.0/0", "10.0.0.1"),)}, "is no destination of a route"),
        ({"routes": (Route("10.8.0.0/16", "fd00::1"),)}, "both must be of one family"),
        ({"routes": (Route("10.8.0.0/16", "10.0.0.1"), Route("10.8.0.1/16", "10.0.0.2"))}, "two routes to 10.8.0.0/16"),
        ({"routes": (Route("10.8.0.0/16", "10.0.0.1"),) * 1025}, "1025 routes are too many"),
        ({"addresses": tuple(f"10.0.{n // 256}.{n % 256}/8" for n in range(1, 1026))}, "1025 addresses are too many"),
        ({"inbound": Bandwidth(1023)}, "inbound bytes per second 1023 is impossible"),
        ({"outbound": Bandwidth(2**32)}, "outbound bytes per second 4294967296 is impossible"),
        ({"outbound": Bandwidth(2048, 1)}, "outbound peak bytes per second 1 is impossible"),
        ({"outbound": Bandwidth(2048, 0, -1)}, "outbound burst -1 is impossible"),
        ({"rules": (replace(RULE, ports=((0, 65536),)),)}, "port 65536 is impossible"),
        ({"rules": (replace(RULE, ports=((9, 8),)),)}, "port 8 is impossible"),
        ({"rules": (replace(RULE, protocol=Protocol.ICMP),)}, "ports with protocol icmp"),
        ({"rules": (replace(RULE, icmp_type=8),)}, "an ICMP type with protocol tcp"),
        ({"rules": (replace(RULE, peers=(("10.0.0.9", "10.0.0.1"),)),)}, "10.0.0.9 to 10.0.0.1 is no range"),
        ({"rules": (replace(RULE, peers=(("10.0.0.9", "fd00::1"),)),)}, "10.0.0.9 to fd00::1 is no range"),
        ({"rules": (RULE,) * 8193}, "8193 security rules are too many"),
        ({"spoofing": Spoofing(addresses=("10.0.0.0/24",))}, "'10.0.0.0/24' is no address of the VM"),
    ],
)
def test_what_no_kernel_could_do_is_refused(changes: dict[str, Any], cause: str) -> None:
    refused(replace(NIC, **changes), cause)


def test_nics_agree_on_what_they_share() -> None:
    other = replace(NIC, index=1, name="eth1", host_name=f"one-{VM}-1", gateways=())
    check_network(Network(VM, (replace(NIC, uplink=VLAN), replace(other, uplink=VLAN))))
    for one, two, cause in (
        (replace(NIC, uplink=VLAN), other, "bridge br0 has two different uplinks"),
        (replace(NIC, uplink=VLAN), replace(other, bridge="br1", uplink=VLAN), "cannot be in br0 and br1"),
        (replace(NIC, metric=9), replace(other, metric=9, gateways=("10.0.0.3",)), "both have a route to default"),
    ):
        with pytest.raises(InvalidRequestError, match=cause):
            check_network(Network(VM, (one, two)))
