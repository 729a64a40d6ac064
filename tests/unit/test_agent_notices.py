"""What is news in the kernel's notifications. The messages are written by another library's encoders."""

import socket
from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from onedock.nodeside.agent.healing.notices import Notice, parse
from onedock.nodeside.agent.healing.subscription import Subscription
from onedock.nodeside.heals import Cause

NEWLINK, DELLINK, NEWADDR, DELADDR, NEWROUTE, DELROUTE = 16, 17, 20, 21, 24, 25
DELNEIGH, NEWRULE, DELRULE, NEWQDISC, DELQDISC = 29, 32, 33, 36, 37
UP, RUNNING = 0x1, 0x10040


def message(of: type[Any], kind: int, attributes: dict[str, Any] | None = None, **fields: Any) -> bytes:
    made = of()
    for name, value in fields.items():
        made[name] = value
    made["header"]["type"] = kind
    made["attrs"] = list((attributes or {}).items())
    made.encode()
    return bytes(made.data)


def link(kind: int = NEWLINK, *, flags: int = UP, **attributes: Any) -> bytes:
    given = {"IFLA_IFNAME": "one-1-0", "IFLA_MTU": 1500, **attributes}
    return message(ifinfmsg, kind, given, index=7, flags=flags)


def bridge(**settings: Any) -> bytes:
    info = {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": list(settings.items())})]}
    return link(IFLA_LINKINFO=info)


def only(data: bytes) -> Notice:
    [found] = parse(data)
    return found


def test_a_link_is_known_by_name_and_index() -> None:
    found = only(link(DELLINK))
    assert (found.cause, found.index, found.name, found.gone) == (Cause.LINK, 7, "one-1-0", True)


@pytest.mark.parametrize(
    "changed",
    [
        link(flags=0),
        link(IFLA_MTU=1400),
        link(IFLA_MASTER=3),
        link(IFLA_ADDRESS="02:00:00:00:00:01"),
        link(IFLA_IFALIAS="onedock:1"),
        link(IFLA_GROUP=5),
        link(IFLA_IFNAME="eth9"),
    ],
)
def test_what_is_set_on_a_link_is_news(changed: bytes) -> None:
    assert only(changed) != only(link())


@pytest.mark.parametrize(
    "changed", [link(flags=UP | RUNNING), link(IFLA_CARRIER=1), link(IFLA_CARRIER_CHANGES=9), link(IFLA_TXQLEN=9)]
)
def test_what_changes_by_itself_is_no_news(changed: bytes) -> None:
    assert only(changed) == only(link())


def test_settings_of_a_bridge_are_news_and_its_timers_are_not() -> None:
    calm = bridge(IFLA_BR_STP_STATE=0, IFLA_BR_VLAN_FILTERING=0)
    assert only(bridge(IFLA_BR_STP_STATE=0, IFLA_BR_VLAN_FILTERING=1)) != only(calm)
    assert only(bridge(IFLA_BR_STP_STATE=0, IFLA_BR_VLAN_FILTERING=0, IFLA_BR_GC_TIMER=99)) == only(calm)


def test_a_port_of_a_bridge_is_another_thing_than_the_link() -> None:
    found = only(message(ifinfmsg, NEWLINK, {"IFLA_IFNAME": "one-1-0", "IFLA_MASTER": 3}, index=7, family=7))
    assert found.cause is Cause.PORT


@pytest.mark.parametrize(
    ("fields", "flags", "told"),
    [
        ({"family": 2, "scope": 0, "index": 7}, 0x80, True),
        ({"family": 10, "scope": 0, "index": 7}, 0x80, True),
        ({"family": 10, "scope": 253, "index": 7}, 0x80, False),
        ({"family": 2, "scope": 0, "index": 7}, 0, True),
        ({"family": 2, "scope": 254, "index": 1}, 0x80, False),
    ],
    ids=["IPv4", "IPv6", "link-local", "leased", "loopback"],
)
def test_addresses_that_somebody_gave_are_news(fields: dict[str, int], flags: int, told: bool) -> None:
    text = "10.0.0.7" if fields["family"] == socket.AF_INET else "fd00::7"
    data = message(ifaddrmsg, DELADDR, {"IFA_ADDRESS": text, "IFA_FLAGS": flags}, prefixlen=24, **fields)
    expected = Notice(Cause.ADDRESS, fields["index"], gone=True, state=(socket.inet_pton(fields["family"], text), 24))
    assert list(parse(data)) == ([expected] if told else [])


def test_a_lease_that_comes_or_is_prolonged_is_no_news() -> None:
    data = message(ifaddrmsg, NEWADDR, {"IFA_FLAGS": 0}, prefixlen=24, family=2, scope=0, index=7)
    assert list(parse(data)) == []


@pytest.mark.parametrize(
    ("kind", "protocol", "table", "told"),
    [
        (NEWROUTE, 4, 254, True),
        (DELROUTE, 3, 254, True),
        (NEWROUTE, 16, 254, False),
        (DELROUTE, 16, 254, True),
        (NEWROUTE, 2, 254, False),
        (DELROUTE, 2, 254, True),
        (DELROUTE, 2, 255, False),
        (NEWROUTE, 4, 252, True),
        (DELROUTE, 4, 252, True),
    ],
    ids=[
        "static",
        "by hand",
        "of a lease",
        "of a lease, gone",
        "of an address",
        "of an address, gone",
        "local",
        "of a source",
        "of a source, gone",
    ],
)
def test_routes_that_somebody_set_are_news(kind: int, protocol: int, table: int, told: bool) -> None:
    data = message(rtmsg, kind, family=2, table=table, proto=protocol, dst_len=0)
    assert [one.cause for one in parse(data)] == [Cause.ROUTE] * told


@pytest.mark.parametrize("kind", [NEWRULE, DELRULE])
def test_rules_for_sources_are_news(kind: int) -> None:
    assert [one.cause for one in parse(message(fibmsg, kind, family=2, src_len=32))] == [Cause.ROUTE]


def test_qdiscs_and_forwarding_entries_name_their_link() -> None:
    assert only(message(tcmsg, DELQDISC, {"TCA_KIND": "tbf"}, index=7)) == Notice(Cause.QDISC, 7, gone=True)
    assert list(parse(message(tcmsg, NEWQDISC, {"TCA_KIND": "noqueue"}, index=7))) == []
    assert only(message(ndmsg, DELNEIGH, family=7, ifindex=7)) == Notice(Cause.FORWARDING, 7, gone=True)


def nftables(number: int, *attributes: tuple[int, bytes]) -> bytes:
    body = bytes([1, 0, 0, 0])
    for kind, value in ((1, b"onedock\0"), *attributes):
        body += (4 + len(value)).to_bytes(2, "little") + kind.to_bytes(2, "little") + value
    return (16 + len(body)).to_bytes(4, "little") + (10 << 8 | number).to_bytes(2, "little") + bytes(10) + body


def test_a_table_is_named_by_all_its_messages() -> None:
    assert [only(nftables(number)) for number in (0, 6, 12)] == [Notice(Cause.FILTER, name="onedock")] * 3
    assert list(parse(nftables(15))) == [], "a transaction's end has no table"


@pytest.mark.parametrize("number", [3, 5, 6, 8, 9, 11, 12, 14, 18, 20])
def test_what_is_in_a_table_is_named(number: int) -> None:
    name, handle = b"one-7-0\0", bytes(8)
    given = ((2, handle), (3, name)) if number in {3, 5} else ((2, name), (3, handle))
    assert only(nftables(number, *given)) == Notice(Cause.FILTER, name="onedock", part="one-7-0")


def test_a_table_out_of_force_has_flags() -> None:
    assert only(nftables(0, (2, bytes(4)))).state == ()
    assert only(nftables(0, (2, b"\0\0\0\1"))).state == (b"\0\0\0\1",)


def test_many_messages_come_at_once_and_a_broken_one_ends_them() -> None:
    together = link() + message(rtmsg, NEWROUTE, family=2, table=254, proto=4) + link(DELLINK)
    assert [one.cause for one in parse(together)] == [Cause.LINK, Cause.ROUTE, Cause.LINK]
    for length in range(len(together)):
        assert len(list(parse(together[:length]))) < 3


def test_what_a_router_gives_is_news_once() -> None:
    given = {"family": 10, "scope": 0, "index": 7, "prefixlen": 64}
    for kind, gone in ((NEWADDR, False), (DELADDR, True)):
        found = only(message(ifaddrmsg, kind, {"IFA_ADDRESS": "2001:db8::7", "IFA_FLAGS": 0}, **given))
        assert (found.cause, found.index, found.gone) == (Cause.ADVERTISED, 7, gone)
        assert found.state == (bytes.fromhex("20010db8" + "0" * 23 + "7"),)
        route = message(rtmsg, kind + 4, family=10, table=254, proto=9, dst_len=0)
        assert only(route) == Notice(Cause.ADVERTISED, gone=gone)
    prefix = message(rtmsg, NEWROUTE, {"RTA_DST": "2001:db8::"}, family=10, table=254, proto=9, dst_len=64)
    assert list(parse(prefix)) == []


def test_an_address_that_is_only_prolonged_is_no_news() -> None:
    told: list[Notice] = []
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    with kernel, ours:
        subscription = Subscription(lambda notice, _: told.append(notice), (ours,))
        given = {"family": 10, "scope": 0, "prefixlen": 64}
        for kind, index, news in (
            (NEWADDR, 7, 1), (NEWADDR, 7, 0), (NEWADDR, 8, 1), (NEWADDR, 7, 0), (DELADDR, 7, 1), (NEWADDR, 7, 1),
        ):  # fmt: skip
            told.clear()
            kernel.send(message(ifaddrmsg, kind, {"IFA_ADDRESS": "2001:db8::7", "IFA_FLAGS": 0}, index=index, **given))
            subscription.read()
            assert len(told) == news
