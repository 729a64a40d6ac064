"""What the kernel is told of uplinks, VLAN filters, bridges and limits, byte by byte where pyroute2 encodes it."""

from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.requests.bridge import BridgeFieldFilter, BridgeIPRouteFilter
from pyroute2.requests.link import LinkFieldFilter, LinkIPRouteFilter
from pyroute2.requests.main import RequestProcessor

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.apply.host import bridge_request
from onedock.nodeside.agent.apply.uplink import port_request, remote_request, uplink_request
from onedock.nodeside.agent.reading.links import as_host_link
from onedock.nodeside.agent.rtnetlink.links import Link
from onedock.nodeside.agent.seen import BRIDGE_GROUP

LOWER, BRIDGE = 5, 9
HEADER = 16
"""Bytes of struct nlmsghdr."""


def decoded(request: dict[str, Any], *filters: Any, command: str = "add") -> Any:
    """The request as pyroute2 sends it, read again as the kernel reads it."""
    processor = RequestProcessor(context=request, prime=request)
    for one in filters or (LinkFieldFilter(), LinkIPRouteFilter(command)):
        processor.add_filter(one)
    processor.finalize()
    message = ifinfmsg()
    values = dict(processor.items())
    for field in ("family", "index", "flags", "change"):
        message[field] = values.pop(field, 0)
    message["attrs"] = [(message.name2nla(name), value) for name, value in values.items()]
    message.encode()
    again = ifinfmsg(message.data)
    again.decode()
    return again


def link_data(message: Any) -> dict[str, Any]:
    return dict(message.get(("linkinfo", "data"))["attrs"])


def test_a_vlan_link_is_born_marked_plugged_and_up() -> None:
    attributes = (("gvrp", "1"), ("id", "100"), ("protocol", str(0x88A8)), ("reorder_hdr", "0"))
    step = steps.CreateUplink("p0.100", "vlan", "p0", "br0", 1496, attributes)
    message = decoded(uplink_request(step, LOWER, BRIDGE))
    assert message["flags"] & 1
    assert message["change"] & 1
    assert {name: message.get(name) for name in ("ifname", "link", "master", "mtu", "group")} == {
        "ifname": "p0.100",
        "link": LOWER,
        "master": BRIDGE,
        "mtu": 1496,
        "group": BRIDGE_GROUP,
    }
    assert message.get(("linkinfo", "kind")) == "vlan"
    data = link_data(message)
    assert (data["IFLA_VLAN_ID"], data["IFLA_VLAN_PROTOCOL"]) == (100, 0x88A8)
    assert {name: data["IFLA_VLAN_FLAGS"][name] for name in ("flags", "mask")} == {"flags": 0x2, "mask": 0x3}
    seen = as_host_link(Link.parse(bytes(message.data)[HEADER:]))
    assert (seen.name, seen.kind, seen.peer, seen.group) == ("p0.100", "vlan", LOWER, BRIDGE_GROUP)
    assert set(attributes) <= seen.attributes


@pytest.mark.parametrize(("lower", "local"), [(LOWER, None), (None, "192.0.2.1")])
def test_a_vxlan_link_says_where_it_ends(lower: int | None, local: str | None) -> None:
    ends = (("local", local),) if local else (("group", "239.0.0.7"),)
    attributes = (("id", "7"), ("learning", "0"), ("port", "8472"), ("ttl", "16"), ("udp_csum", "1"), *ends)
    step = steps.CreateUplink("p0.7", "vxlan", "p0" if lower else None, "br0", None, attributes)
    message = decoded(uplink_request(step, lower, BRIDGE))
    assert message.get("mtu") is None
    assert message.get("link") is None
    data = link_data(message)
    assert data.pop("IFLA_VXLAN_LINK", None) == lower
    assert data.pop("IFLA_VXLAN_LOCAL", None) == local
    assert data.pop("IFLA_VXLAN_GROUP", None) == (None if local else "239.0.0.7")
    assert set(attributes) <= as_host_link(Link.parse(bytes(message.data)[HEADER:])).attributes
    assert as_host_link(Link.parse(bytes(message.data)[HEADER:])).peer == (lower or 0)
    assert data == {
        "IFLA_VXLAN_ID": 7,
        "IFLA_VXLAN_LEARNING": 0,
        "IFLA_VXLAN_PORT": 8472,
        "IFLA_VXLAN_TTL": 16,
        "IFLA_VXLAN_UDP_CSUM": 1,
    }


def test_ipv6_tunnels_have_attributes_of_their_own() -> None:
    step = steps.CreateUplink(
        "p0.7", "vxlan", "p0", "br0", None, (("group6", "ff05::7"), ("id", "7"), ("local6", "fd00::1"))
    )
    data = link_data(decoded(uplink_request(step, LOWER, BRIDGE)))
    assert (data["IFLA_VXLAN_GROUP6"], data["IFLA_VXLAN_LOCAL6"]) == ("ff05::7", "fd00::1")


def test_a_bridge_has_its_options_and_no_spanning_tree_unless_asked_for() -> None:
    plain = link_data(decoded(bridge_request(steps.CreateBridge("br0", None))))
    assert plain == {"IFLA_BR_STP_STATE": 0}
    options = (("ageing_time", "30000"), ("priority", "4096"), ("stp_state", "1"))
    message = decoded(bridge_request(steps.CreateBridge("br0", 9000, options)))
    assert (message.get("mtu"), message.get("group")) == (9000, BRIDGE_GROUP)
    assert link_data(message) == {"IFLA_BR_STP_STATE": 1, "IFLA_BR_AGEING_TIME": 30000, "IFLA_BR_PRIORITY": 4096}


def test_filtering_is_one_attribute_of_the_bridge() -> None:
    message = decoded({"ifname": "br0", "kind": "bridge", "br_vlan_filtering": 1}, command="set")
    assert link_data(message) == {"IFLA_BR_VLAN_FILTERING": 1}


def test_all_vlans_of_a_port_are_in_one_message() -> None:
    request = port_request(7, ((100, True), (200, False), (4094, False)))
    message = decoded({**request, "family": 7}, BridgeFieldFilter(), BridgeIPRouteFilter("add"))
    assert (message["family"], message["index"]) == (7, 7)
    entries = message.get_attr("IFLA_AF_SPEC").get_attrs("IFLA_BRIDGE_VLAN_INFO")
    pvid_and_untagged = 0x2 | 0x4
    assert [(one["vid"], one["flags"]) for one in entries] == [(100, pvid_and_untagged), (200, 0), (4094, 0)]


def test_another_node_is_an_entry_for_everything_unknown() -> None:
    assert remote_request(4, "192.0.2.9") == {
        "ifindex": 4,
        "lladdr": "00:00:00:00:00:00",
        "dst": "192.0.2.9",
        "state": 0xC0,
        "flags": 0x2,
    }
