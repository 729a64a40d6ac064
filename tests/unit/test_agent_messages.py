"""What the kernel is told of a NIC and what it answers, byte by byte, against pyroute2's reading and writing of it."""

import ipaddress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from onedock.nodeside.agent.attributes import attribute, each_attribute
from onedock.nodeside.agent.reading.links import as_host_link
from onedock.nodeside.agent.rtnetlink import messages
from onedock.nodeside.agent.rtnetlink.links import Link
from onedock.nodeside.agent.rtnetlink.messages import Route
from onedock.nodeside.agent.rtnetlink.socket import HEADER

ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)
MACS = st.binary(min_size=6, max_size=6).map(lambda mac: mac.hex(":"))
NUMBERS = st.integers(1, 2**31 - 1)


def decoded(kind: Any, body: bytes) -> Any:
    """A body as pyroute2 reads it, behind a header."""
    message = kind(HEADER.pack(HEADER.size + len(body), 0, 0, 0, 0) + body)
    message.decode()
    return message


@given(ADDRESSES, st.data(), NUMBERS)
def test_an_address_is_said_with_its_prefix_and_link(address: Any, data: st.DataObject, index: int) -> None:
    prefix = data.draw(st.integers(0, address.max_prefixlen))
    said = decoded(ifaddrmsg, messages.address(f"{address}/{prefix}", index))
    assert (said["family"], said["prefixlen"], said["index"]) == (2 if address.version == 4 else 10, prefix, index)
    assert ipaddress.ip_address(said.get("address")) == address
    if address.version == 4:
        assert said.get("local") == str(address)
    else:
        assert said.get("flags") == 0x02  # IFA_F_NODAD


@given(ADDRESSES, st.data(), NUMBERS, st.integers(1, 2000), st.none() | NUMBERS, st.booleans())
def test_a_route_is_said_with_all_that_tells_it_from_others(
    address: Any, data: st.DataObject, link: int, table: int, metric: int | None, removal: bool
) -> None:
    prefix = data.draw(st.integers(0, address.max_prefixlen))
    network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    route = Route(str(network), link, 4, scope=253, gateway=str(address), metric=metric, table=table, flags=4)
    said = decoded(rtmsg, messages.route(route, removal=removal))
    assert (said["family"], said["dst_len"], said["proto"]) == (2 if address.version == 4 else 10, prefix, 4)
    assert (said["table"] or said.get("table")) == table
    assert (said.get("oif"), said.get("priority"), said["flags"]) == (link, metric, 4)
    assert ipaddress.ip_address(said.get("gateway")) == address
    assert said.get("dst") == (str(network.network_address) if prefix else None)
    # Scope "nowhere" and no type: whatever the one to be removed has.
    assert (said["scope"], said["type"]) == ((255, 0) if removal else (253, 1))


@given(ADDRESSES, st.integers(1000, 5000), st.integers(1, 32000))
def test_a_rule_for_a_source_leads_to_its_table(source: Any, table: int, priority: int) -> None:
    said = decoded(fibmsg, messages.source_rule(str(source), table, priority))
    assert (said["src_len"], said["action"], said.get("priority")) == (source.max_prefixlen, 1, priority)
    assert ipaddress.ip_address(said.get("src")) == source
    assert said.get("table") == table


@given(MACS, st.none() | st.integers(68, 65535), NUMBERS, NUMBERS)
def test_both_ends_of_a_veth_are_born_as_they_are_to_be(mac: str, mtu: int | None, bridge: int, group: int) -> None:
    outer = messages.link("one-7-0", up=True, mac=f"fe{mac[2:]}", mtu=mtu, master=bridge, group=group)
    said = decoded(ifinfmsg, messages.veth(outer, messages.link("eth0", mac=mac, mtu=mtu), 9))
    assert (said.get("ifname"), said.get("master"), said.get("group")) == ("one-7-0", bridge, group)
    assert (said.get("address"), said.get("mtu"), said["flags"], said["change"]) == (f"fe{mac[2:]}", mtu, 1, 1)
    assert said.get(("linkinfo", "kind")) == "veth"
    peer = said.get(("linkinfo", "data", "VETH_INFO_PEER"))
    assert (peer.get("IFLA_IFNAME"), peer.get("IFLA_ADDRESS"), peer.get("IFLA_MTU")) == ("eth0", mac, mtu)
    assert (peer.get("IFLA_NET_NS_FD"), peer["flags"]) == (9, 0)


@given(st.integers(1, 2**31 - 1), st.integers(68, 65535), st.booleans(), st.text("abcdefgh:/ ", max_size=30))
def test_a_link_is_read_as_it_was_written(index: int, mtu: int, up: bool, alias: str) -> None:
    message = ifinfmsg()
    message["index"], message["flags"] = index, int(up)
    message["attrs"] = [("IFLA_IFNAME", "one-7-0"), ("IFLA_MTU", mtu), ("IFLA_IFALIAS", alias), ("IFLA_GROUP", 77)]
    message["attrs"] += [
        ("IFLA_LINK", 5),
        ("IFLA_QDISC", "tbf"),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth")]}),
    ]
    message.encode()
    link = as_host_link(Link.parse(bytes(message.data)[HEADER.size :]))
    assert (link.name, link.index, link.kind, link.up, link.mtu) == ("one-7-0", index, "veth", up, mtu)
    assert (link.alias, link.group, link.peer, link.limited) == (alias, 77, 5, True)


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_attributes_end(data: bytes) -> None:
    assert sum(4 + len(value) for _, value in each_attribute(data)) <= len(data) + 3


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_attributes_are_read_as_they_were_written(some: list[tuple[int, bytes]]) -> None:
    assert list(each_attribute(b"".join(attribute(*one) for one in some))) == some
