"""Leases: what a server says is data, checked, and nothing else."""

import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedock.nodeside.agent.dhcp.client import SCRIPT
from onedock.nodeside.agent.dhcp.lease import LONGEST_S, BadLeaseError, Lease, parse_lease, parse_record

NOW = 1_000_000.0
BOUND = {
    "event": "bound", "interface": "eth0", "ip": "10.5.0.20", "subnet": "255.255.255.0", "mask": "24",
    "router": "10.5.0.1 10.5.0.2", "dns": "10.5.0.53 10.5.0.54", "domain": "example.org", "lease": "3600",
    "serverid": "10.5.0.1", "mtu": "1400",
}  # fmt: skip


def test_a_lease_is_read() -> None:
    assert parse_lease(BOUND, NOW) == Lease(
        address="10.5.0.20/24",
        seconds=3600,
        obtained=NOW,
        server="10.5.0.1",
        routes=(("0.0.0.0/0", "10.5.0.1"),),
        dns=("10.5.0.53", "10.5.0.54"),
        search=("example.org",),
        mtu=1400,
    )


def test_classless_routes_stand_for_the_routers() -> None:
    said = "10.9.0.0/16 10.5.0.3 0.0.0.0/0 10.5.0.4 10.8.1.1/24 0.0.0.0 10.9.0.0/16 10.5.0.9 nonsense"
    assert set(parse_lease(BOUND | {"staticroutes": said}, NOW).routes) == {
        ("10.9.0.0/16", "10.5.0.3"),
        ("0.0.0.0/0", "10.5.0.4"),
        ("10.8.1.0/24", ""),
    }


@pytest.mark.parametrize(
    ("change", "attribute", "value"),
    [
        ({"lease": "4294967295"}, "seconds", LONGEST_S),
        ({"mtu": "68"}, "mtu", None),
        ({"mtu": "1 500"}, "mtu", None),
        ({"router": ""}, "routes", ()),
        ({"router": "0.0.0.0 224.0.0.1 x"}, "routes", ()),
        ({"dns": "10.0.0.1 10.0.0.1 $(id)"}, "dns", ("10.0.0.1",)),
        ({"domain": "$(id) a\\012b example.org"}, "search", ("example.org",)),
        ({"search": "b.example a.example b.example"}, "search", ("b.example", "a.example")),
        ({"subnet": "", "mask": "16"}, "address", "10.5.0.20/16"),
    ],
)
def test_what_makes_no_sense_is_left_out(change: dict[str, str], attribute: str, value: Any) -> None:
    assert getattr(parse_lease(BOUND | change, NOW), attribute) == value


@pytest.mark.parametrize(
    "change",
    [
        {"ip": ""}, {"ip": "10.5.0"}, {"ip": "fe80::1"}, {"ip": "127.0.0.1"}, {"ip": "224.0.0.1"},
        {"ip": "0.0.0.0"}, {"ip": "0.1.2.3"}, {"ip": "255.255.255.255"},
        {"subnet": "255.0.255.0"}, {"subnet": "", "mask": "33"}, {"subnet": "0.0.0.0"}, {"lease": "0"}, {"lease": "-5"},
        {"lease": "forever"}, {"lease": ""},
    ],
)  # fmt: skip
def test_a_lease_that_cannot_be_used_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(BadLeaseError):
        parse_lease(BOUND | change, NOW)


@given(st.dictionaries(st.sampled_from([*sorted(BOUND), "staticroutes"]), st.text(max_size=80)))
def test_whatever_a_server_says_is_a_lease_or_refused(said: dict[str, str]) -> None:
    try:
        lease = parse_lease(BOUND | said, NOW)
    except BadLeaseError:
        return
    assert 0 < lease.seconds <= LONGEST_S
    assert len({destination for destination, _ in lease.routes}) == len(lease.routes)


def test_what_is_renewed_stays_the_same_address() -> None:
    before = parse_lease(BOUND, NOW)
    assert parse_lease(BOUND | {"event": "renew", "lease": "7200"}, NOW, before).seconds == 7200
    for earlier, address in ((before, "10.5.0.21"), (None, "10.5.0.20")):
        with pytest.raises(BadLeaseError, match="instead of the address that is to be renewed"):
            parse_lease(BOUND | {"event": "renew", "ip": address}, NOW, earlier)
    assert parse_lease(BOUND | {"ip": "10.5.0.21"}, NOW, before).ip == "10.5.0.21"


def test_a_lease_ends_and_a_clock_that_was_set_back_does_not_prolong_it() -> None:
    lease = parse_lease(BOUND, NOW)
    assert [lease.remaining(NOW + passed) for passed in (0, 600, 3600, 9999, -500)] == [3600, 3000, 0, 0, 3600]


def test_the_script_hands_on_what_it_gets_without_reading_it() -> None:
    hostile = {"domain": "$(id)`id`;\nx='", "event": "forged", "ip": "a=b=c", "lease": ""}
    said = subprocess.run(
        ["sh", "-c", SCRIPT.split("\n", 1)[1], "script", "bound"],
        env={"PATH": "/usr/bin:/bin", **hostile},
        capture_output=True,
        check=True,
    ).stdout
    assert said.endswith(b"\0\0")
    assert parse_record(said).items() >= {**hostile, "event": "bound"}.items()
