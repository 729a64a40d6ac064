"""Addresses, methods, routes and limits of a NIC."""

import pytest
from tests.support.networks import changed, network, only

from onedock.config.settings import NetworkSettings
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.nic_parts import Bandwidth, Method, Route, Spoofing

DUAL = changed(IP6="fd00::10", GATEWAY="10.0.0.1", GATEWAY6="fd00::1")
ALIAS = {"NIC_ID": "2", "ALIAS_ID": "0", "PARENT_ID": "0", "IP": "10.0.0.11", "IP6_GLOBAL": "fd00::11"}


@pytest.mark.parametrize(
    ("values", "methods", "addresses", "others", "gateways"),
    [
        ({}, (Method.STATIC, Method.STATIC), ("10.0.0.10/24", "fd00::10/64"), (), ("10.0.0.1", "fd00::1")),
        ({"METHOD": "DHCP"}, (Method.DHCP, Method.STATIC), ("fd00::10/64",), ("10.0.0.10",), ("fd00::1",)),
        ({"METHOD": "skip"}, (Method.SKIP, Method.STATIC), ("fd00::10/64",), ("10.0.0.10",), ("fd00::1",)),
        (
            {"IP6_METHOD": "auto"},
            (Method.STATIC, Method.AUTO),
            ("10.0.0.10/24", "fd00::10/64"),
            (),
            ("10.0.0.1", "fd00::1"),
        ),
        (
            {"IP6_METHOD": "dhcp"},
            (Method.STATIC, Method.AUTO),
            ("10.0.0.10/24", "fd00::10/64"),
            (),
            ("10.0.0.1", "fd00::1"),
        ),
        ({"IP6_METHOD": "skip"}, (Method.STATIC, Method.SKIP), ("10.0.0.10/24",), ("fd00::10",), ("10.0.0.1",)),
        ({"IP6_METHOD": "disable"}, (Method.STATIC, Method.DISABLE), ("10.0.0.10/24",), ("fd00::10",), ("10.0.0.1",)),
        (
            {"METHOD": "skip", "IP6_METHOD": "skip"},
            (Method.SKIP, Method.SKIP),
            (),
            ("10.0.0.10", "fd00::10"),
            (),
        ),
    ],
)
def test_methods(
    values: dict[str, str],
    methods: tuple[Method, Method],
    addresses: tuple[str, ...],
    others: tuple[str, ...],
    gateways: tuple[str, ...],
) -> None:
    for nic in (only({**DUAL, **values}), only(DUAL, {f"ETH0_{name}": text for name, text in values.items()})):
        assert (nic.method, nic.method6) == methods
        assert nic.addresses == addresses
        assert nic.spoofing == Spoofing(addresses=others)
        assert nic.gateways == gateways


def test_aliases_stay_beside_a_dhcp_address_and_go_with_skip() -> None:
    assert only(changed(METHOD="dhcp"), aliases=(ALIAS,)).addresses == ("10.0.0.11/24", "fd00::11/64")
    assert only(changed(METHOD="skip", IP6_METHOD="skip"), aliases=(ALIAS,)).addresses == ()


def test_external_aliases_are_allowed_and_not_configured() -> None:
    nic = only(changed(), aliases=(ALIAS | {"EXTERNAL": "YES", "NETWORK": "public"}, ALIAS | {"IP": "10.0.0.12"}))
    assert nic.addresses == ("10.0.0.10/24", "10.0.0.12/24", "fd00::11/64")
    assert nic.spoofing.addresses == ("10.0.0.11",)


def test_aliases_of_several_networks_have_their_own_masks() -> None:
    context = {
        "ETH0_ALIAS0_MASK": "255.255.0.0",
        "ETH0_ALIAS1_MASK": "255.0.0.0",
        "ETH0_ALIAS1_IP6_PREFIX_LENGTH": "48",
    }
    other = ALIAS | {
        "ALIAS_ID": "1",
        "NETWORK": "storage",
        "VN_MAD": "vxlan",
        "IP": "172.16.0.9",
        "IP6_GLOBAL": "fd01::9",
    }
    nic = only(changed(), context, (ALIAS, other))
    assert nic.addresses == ("10.0.0.10/24", "10.0.0.11/16", "fd00::11/64", "172.16.0.9/8", "fd01::9/48")


def test_addresses_that_the_guest_or_its_kernel_configures() -> None:
    nic = only(
        changed(IP6_LINK="fe80::aff:fe00:a", VROUTER_IP="10.0.0.254"), aliases=(ALIAS | {"VROUTER_IP": "10.0.0.253"},)
    )
    assert nic.spoofing.addresses == ("10.0.0.254", "fe80::aff:fe00:a", "10.0.0.253")
    assert set(nic.spoofing.addresses).isdisjoint(address.split("/")[0] for address in nic.addresses)


def test_a_filtered_nic_has_leased_addresses_only() -> None:
    forged = {"ETH0_IP": "10.0.0.99", "ETH0_IP6": "fd00::99", "ETH0_ALIAS0_IP": "10.0.0.98", "ETH0_MASK": "255.255.0.0"}
    assert only(changed(), forged).addresses == ("10.0.0.99/16", "fd00::99/64")
    nic = only(changed(FILTER_IP_SPOOFING="YES"), forged, (ALIAS,))
    assert nic.addresses == ("10.0.0.10/16", "10.0.0.11/24", "fd00::11/64")
    assert nic.spoofing == Spoofing(ip=True)


def test_filters_hold_for_every_driver() -> None:
    ovs = {"VN_MAD": "ovswitch", "BRIDGE_TYPE": "openvswitch"}
    for values in ({}, {"VN_MAD": "fw"}, {"VN_MAD": "dummy"}, ovs):
        nic = only(changed(**values, FILTER_MAC_SPOOFING="yes", FILTER_IP_SPOOFING="no"))
        assert nic.spoofing == Spoofing(mac=True)


def test_metrics_and_routes() -> None:
    routes = (
        "10.0.0.0/8 via 10.0.0.1,  172.16.5.9/255.240.0.0 via 10.0.0.2 ,, fd02::/48 via fd00::2, 192.0.2.1 via 10.0.0.3"
    )
    nic = only(changed(METRIC="5", ROUTES=routes), {"ETH0_IP6_METRIC": "1024"})
    assert (nic.metric, nic.metric6) == (5, 1024)
    assert nic.routes == (
        Route("10.0.0.0/8", "10.0.0.1"),
        Route("172.16.0.0/12", "10.0.0.2"),
        Route("fd02::/48", "fd00::2"),
        Route("192.0.2.1/32", "10.0.0.3"),
    )
    assert only(changed(METHOD="dhcp", ROUTES=routes)).routes == (Route("fd02::/48", "fd00::2"),)
    assert only(changed(), {"ETH0_ROUTES": "10.0.0.0/8 via 10.0.0.1"}).routes == nic.routes[:1]


def test_nics_of_one_network_have_its_metric_one_after_the_other() -> None:
    asked: tuple[dict[str, str], ...] = (
        {"METRIC": "55"},
        {"METRIC": "56"},
        {"METRIC": "55", "IP6_METRIC": "9"},
        {"IP6_METRIC": "9"},
        {},
    )
    found = network(*(changed(NIC_ID=str(index), **values) for index, values in enumerate(asked))).nics
    assert [nic.metric for nic in found] == [55, 56, 57, None, None]
    assert [nic.metric6 for nic in found] == [None, None, 9, 10, None]


def test_addresses_are_probed_when_the_settings_say_so() -> None:
    assert only(changed(), settings=NetworkSettings(probe_addresses=True)).probe
    assert not only(changed()).probe


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ({}, None),
        ({"AVG_BW": ""}, None),
        ({"AVG_BW": "0", "PEAK_BW": "500"}, None),
        ({"PEAK_BW": "0", "PEAK_KB": "0"}, None),
        ({"AVG_BW": "1000"}, Bandwidth(1_024_000)),
        ({"AVG_BW": "1000", "PEAK_BW": "2000", "PEAK_KB": "64"}, Bandwidth(1_024_000, 2_048_000, 65_536)),
        ({"AVG_BW": "1000", "PEAK_BW": "1000"}, Bandwidth(1_024_000, 1_024_000)),
    ],
)
def test_bandwidth(values: dict[str, str], limit: Bandwidth | None) -> None:
    nic = only(changed(**{f"INBOUND_{name}": text for name, text in values.items()}))
    assert (nic.inbound, nic.outbound) == (limit, None)
    nic = only(changed(**{f"OUTBOUND_{name}": text for name, text in values.items()}))
    assert (nic.inbound, nic.outbound) == (None, limit)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"METHOD": "bootp"}, "METHOD must be one of static, dhcp, skip, not 'bootp'"),
        ({"METHOD": "auto"}, "METHOD must be one of static, dhcp, skip, not 'auto'"),
        ({"IP6_METHOD": "x" * 1_000_000}, "IP6_METHOD must be one of static, auto, dhcp, skip, disable, not"),
        ({"METRIC": "0"}, "METRIC must be a number from 1"),
        ({"IP6_METRIC": "4294967296"}, "IP6_METRIC must be a number from 1 to 4294967295"),
        ({"ROUTES": "10.0.0.0/8"}, "ROUTES must be like '10.0.0.0/8 via 192.168.7.1, …', not '10.0.0.0/8'"),
        ({"ROUTES": "10.0.0.0/8 dev eth0"}, "ROUTES must be like"),
        ({"ROUTES": "default via 10.0.0.1"}, "ROUTES: 'default' is not a network like 10.0.0.0/8"),
        ({"ROUTES": "10.0.0.0/8 via fd00::1"}, "cannot be reached via fd00::1; both must be of one family"),
        ({"ROUTES": "10.0.0.0/8 via gw"}, "the gateway in ROUTES is not an IP address"),
        ({"ROUTES": "fe80::%x/64 via fd00::1"}, "ROUTES"),
        ({"ROUTES": "10.0.0.0/8 via 10.0.0.1," * 2000}, "ROUTES names 2000 routes; at most 1024"),
        (
            {"ROUTES": "0.0.0.0/0 via 10.0.0.1"},
            "ROUTES: 0.0.0.0/0 is the default route; set GATEWAY or GATEWAY6 instead",
        ),
        (
            {"ROUTES": "10.0.0.0/8 via 10.0.0.1,10.1.0.0/8 via 10.0.0.2"},
            "ROUTES: 10.0.0.0/8 has two gateways; leave one",
        ),
        ({"VROUTER_IP": "x"}, "VROUTER_IP is not an IP address"),
        ({"INBOUND_AVG_BW": "-1"}, "INBOUND_AVG_BW must be a number"),
        ({"INBOUND_AVG_BW": "1e9"}, "INBOUND_AVG_BW must be a number"),
        ({"INBOUND_AVG_BW": "4194304"}, "INBOUND_AVG_BW must be a number from 0 to 4194303, not '4194304'"),
        ({"OUTBOUND_AVG_BW": "9", "OUTBOUND_PEAK_KB": "1073741824"}, "OUTBOUND_PEAK_KB must be a number from 0 to"),
        ({"INBOUND_AVG_BW": "9" * 100}, "INBOUND_AVG_BW must be a number"),
        ({"OUTBOUND_PEAK_BW": "5"}, "OUTBOUND_PEAK_… without OUTBOUND_AVG_BW; set the average"),
        ({"OUTBOUND_PEAK_KB": "5"}, "OUTBOUND_PEAK_… without OUTBOUND_AVG_BW; set the average"),
        ({"INBOUND_AVG_BW": "10", "INBOUND_PEAK_BW": "9"}, "INBOUND_PEAK_BW is below INBOUND_AVG_BW; raise the peak"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(values: dict[str, str], reason: str) -> None:
    with pytest.raises(TerminalError) as caught:
        only(changed(**values))
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 250


def test_too_many_aliases_are_refused() -> None:
    with pytest.raises(TerminalError, match="2000 aliases are too many; at most 1023"):
        only(changed(), aliases=(ALIAS,) * 2000)
