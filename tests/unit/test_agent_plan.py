"""The agent's plan: it converges from any state, then rests; it never touches what is not ONEDock's."""

from dataclasses import replace
from ipaddress import ip_interface

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.kernel_model import World

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.describe import describe
from onedock.nodeside.agent.plan import is_our_bridge, is_unused, plan
from onedock.nodeside.agent.plan.methods import NEW, plan_ipv6, plan_unheard
from onedock.nodeside.agent.plan.nic import plan_addresses
from onedock.nodeside.agent.plan.routes import plan_routes
from onedock.nodeside.agent.plan.shaping import plan_limits, token_bucket
from onedock.nodeside.agent.seen import (
    BRIDGE_ALIAS,
    BRIDGE_GROUP,
    SOURCE_TABLES,
    HostLink,
    InnerLink,
    Seen,
    SourceRoute,
    TokenBucket,
    vm_alias,
    vm_group,
)
from onedock.nodeside.agent.steps.words import in_words
from onedock.nodeside.agent.validate import InvalidRequestError, check_container, check_network
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Leased, Method, Route, TrunkPort, Uplink, Vlan, Vxlan

VM = VmId(22001)
ADDRESSES = ("10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "192.168.1.9/16", "2001:DB8::1/64", "fd00::7/48")
LIMITS = (None, Bandwidth(10_000), Bandwidth(20_000_000, 40_000_000, 3_000_000))
UPLINKS: tuple[Uplink, ...] = (
    Vlan("p0.7", "p0", 7),
    Vlan("p0.7", "p0", 7, mtu=1400, options=(("gvrp", "1"),)),
    Vlan("p0.8", "p0", 8),
    Vxlan("p0.7", "p0", 7, group="239.0.0.7"),
    Vxlan("p0.9", "p0", 9, remotes=("192.0.2.1", "192.0.2.2", "192.0.2.3"), ttl=9),
    Vxlan("p0.9", "p0", 9, remotes=("192.0.2.3",), tep="local_ip", ttl=9),
)
PRESENT = (
    ("p0.7", "vlan", (("id", "7"), ("gvrp", "0"))),
    ("p0.8", "vlan", (("id", "8"),)),
    ("p0.9", "vxlan", (("id", "9"), ("port", "8472"), ("learning", "1"), ("ttl", "9"))),
)
REMOTES = st.frozensets(st.sampled_from(("192.0.2.3", "192.0.2.8")))
METHODS = ((Method.STATIC, Method.STATIC), (Method.SKIP, Method.AUTO), (Method.DHCP, Method.DISABLE))
TRUNKS = (TrunkPort((2, 3)), TrunkPort((3, 4), untagged=5), TrunkPort((1, 5), untagged=5), TrunkPort((), untagged=2))
SOURCE_RULES = st.frozensets(st.sampled_from((("10.0.0.2", 1001), ("10.0.0.2", 1002), ("10.0.0.9", 1001))))
GATEWAYS = ("10.0.0.254", "172.31.0.1", "2001:DB8::FF")


@st.composite
def networks(draw: st.DrawFn) -> Network:
    nics = []
    for index in draw(st.lists(st.integers(0, 3), unique=True, max_size=3)):
        addresses = draw(st.lists(st.sampled_from(ADDRESSES), max_size=4))
        nics.append(
            Nic(
                index=index,
                name=f"eth{index}",
                host_name=f"one-{VM}-{index}",
                mac=draw(st.sampled_from(("02:00:0A:00:00:01", "02:00:0a:00:00:02"))),
                bridge=draw(st.sampled_from(("br0", "br1", "br2"))),
                addresses=tuple(addresses),
                gateways=tuple(draw(st.sampled_from(((), GATEWAYS[:1], GATEWAYS[1:2], GATEWAYS[1:])))),
                mtu=draw(st.sampled_from((None, 1400, 9000))),
                inbound=draw(st.sampled_from(LIMITS)),
                outbound=draw(st.sampled_from(LIMITS)),
                metric=draw(st.sampled_from((None, 7))),
            )
        )
        nics[-1] = draw(with_parts(nics[-1]))
    return Network(VM, tuple(nics))


@st.composite
def with_parts(draw: st.DrawFn, nic: Nic) -> Nic:
    """The NIC with a method, routes, and for certain bridges with an uplink or trunk."""
    method, method6 = draw(st.sampled_from(METHODS))
    if method6 is Method.DISABLE:
        nic = replace(
            nic,
            addresses=tuple(one for one in nic.addresses if ":" not in one),
            gateways=tuple(one for one in nic.gateways if ":" not in one),
        )
    elif draw(st.booleans()):
        nic = replace(nic, routes=(Route("10.8.1.0/16", "10.0.0.9"), Route("2001:db8:8::/48", "fe80::1")))
    nic = replace(nic, method=method, method6=method6)
    if nic.bridge == "br1":
        nic = replace(nic, uplink=draw(st.shared(st.sampled_from(UPLINKS), key="uplink of br1")))
    if nic.bridge == "br2":
        nic = replace(nic, trunk=draw(st.sampled_from((None, *TRUNKS))))
    return nic


@st.composite
def worlds(draw: st.DrawFn) -> Seen:
    """A namespace in any state of repair, and a host with some bridges."""
    host = {"p0": HostLink("p0", 3, up=draw(st.booleans()))}
    own = ((3, "192.0.2.2"), (9, "192.0.2.77"))
    for number, name in enumerate(("br0", "br1", "br2")):
        if draw(st.booleans()):
            group, alias = draw(st.sampled_from(((0, ""), (BRIDGE_GROUP, ""), (BRIDGE_GROUP, BRIDGE_ALIAS))))
            mtu = draw(st.sampled_from((1500, 9000)))
            filters = group == 0 or draw(st.booleans())
            up = draw(st.booleans())
            host[name] = HostLink(name, 10 + number, "bridge", group, alias, mtu=mtu, up=up, filters_vlans=filters)
    for name, kind, attributes in draw(st.lists(st.sampled_from(PRESENT), unique_by=lambda one: one[0])):
        host[name] = HostLink(
            name,
            30 + len(host),
            kind,
            BRIDGE_GROUP,
            up=draw(st.booleans()),
            master=draw(st.sampled_from((None, *({"br1"} & set(host))))),
            peer=3,
            attributes=frozenset(attributes),
            remotes=draw(REMOTES) if kind == "vxlan" else frozenset(),
        )
    if not draw(st.booleans()):
        return World(VM, Seen(host=host, own_addresses=own)).seen()
    inner = []
    for index in draw(st.lists(st.integers(0, 4), unique=True, max_size=4)):
        host_name = f"one-{VM}-{draw(st.sampled_from((index, index + 5)))}"
        host[host_name] = HostLink(
            host_name,
            100 + index,
            "veth",
            vm_group(VM),
            draw(st.sampled_from(("", vm_alias(VM)))),
            mtu=draw(st.sampled_from((1400, 1500))),
            up=draw(st.booleans()),
            master=draw(st.sampled_from((None, *(name for name in host if name.startswith("br"))))),
            peer=50 + index,
        )
        if draw(st.integers(0, 4)) == 0:
            continue  # its other side is in a namespace that nobody finds any more
        inner.append(
            InnerLink(
                f"eth{index}",
                50 + index,
                "veth",
                draw(st.sampled_from(("02:00:0a:00:00:01", "02:ff:00:00:00:00"))),
                draw(st.sampled_from((1400, 1500))),
                up=draw(st.booleans()),
                peer=100 + index,
                addresses=tuple(map(str, map(ip_interface, draw(st.lists(st.sampled_from(ADDRESSES), unique=True))))),
                gateways=tuple(draw(st.sampled_from(((), (("10.0.0.254", 100),), (("10.9.9.9", 7),))))),
                routes=tuple(draw(st.sampled_from(((), (("10.8.0.0/16", "10.0.0.9", 100),))))),
                source_routes=draw(st.frozensets(st.sampled_from(_in_table(SOURCE_TABLES + index)), max_size=2)),
                ipv6=tuple(draw(st.sampled_from(((), NEW.items(), (NEW | {"accept_ra": 1}).items())))),
                carrier=draw(st.booleans()),
                limited=(limited := draw(st.booleans())),
                bucket=draw(st.sampled_from((None, TokenBucket(10_000, 3036, 24288)))) if limited else None,
            )
        )
    up, rules = draw(st.booleans()), draw(SOURCE_RULES)
    return World(VM, Seen(True, up, tuple(inner), rules, host, own_addresses=own)).seen()


def _in_table(table: int) -> tuple[SourceRoute, ...]:
    return (table, "10.0.0.0/24", ""), (table, "0.0.0.0/0", "10.0.0.254"), (table, "::/0", "fe80::8")


@given(networks(), worlds())
@settings(max_examples=400, deadline=None)
def test_plan_converges_then_rests(wanted: Network, seen: Seen) -> None:
    world = World(VM, seen)
    for step in plan(wanted, world.seen()):
        world.apply(step)

    assert plan(wanted, world.seen()) == ()
    observed = describe(VM, world.seen(), wanted, ())
    assert observed is not None
    assert observed.provides(wanted)


@given(networks(), worlds())
@settings(max_examples=100, deadline=None)
def test_what_is_not_ours_stays(wanted: Network, seen: Seen) -> None:
    shared = {name: link for name, link in seen.host.items() if link.kind == "bridge" and link.group == 0}
    world = World(VM, seen)
    for step in plan(wanted, seen):
        world.apply(step)
    for name, link in shared.items():
        assert replace(world.host[name], up=link.up) == link


NIC = Nic(0, "eth0", f"one-{VM}-0", "02:00:0a:00:00:01", "br0", ("10.0.0.1/24",), ("10.0.0.254",))


def test_a_new_vm_takes_one_message_for_its_veth() -> None:
    assert plan(Network(VM, (NIC,)), Seen(host={"br0": HostLink("br0", 9, "bridge", mtu=9000, up=True)})) == (
        steps.CreateNamespace(),
        steps.RaiseLoopback(),
        steps.CreateVeth(VM, NIC.host_name, "eth0", NIC.mac, "br0", None, 9000),
        steps.Label(NIC.host_name, f"onedock:{VM}"),
        steps.AddAddress("eth0", "10.0.0.1/24"),
        steps.RaiseNic("eth0"),
        steps.AddGateway("eth0", "10.0.0.254", 100, onlink=False),
    )


def _for_sources(network: Network) -> list[steps.Step]:
    of_sources = (steps.AddSourceRoute, steps.AddSourceRule, steps.SetIpv4)
    return [step for step in plan(network, Seen()) if isinstance(step, of_sources)]


def test_nics_in_overlapping_subnets_send_by_themselves_what_has_their_addresses() -> None:
    first = replace(NIC, addresses=("10.0.0.1/16", "2001:db8::1/64"))
    second = replace(
        NIC,
        index=1,
        name="eth1",
        host_name=f"one-{VM}-1",
        addresses=("10.0.9.2/24",),
        gateways=("172.31.0.1",),
        routes=(Route("10.8.0.0/16", "10.0.9.8"),),
    )
    assert _for_sources(Network(VM, (first, second))) == [
        steps.SetIpv4("eth0", "arp_ignore", 1),
        steps.SetIpv4("eth0", "arp_announce", 2),
        steps.SetIpv4("eth1", "arp_ignore", 1),
        steps.SetIpv4("eth1", "arp_announce", 2),
        steps.AddSourceRoute("eth0", 1000, "10.0.0.0/16", "", onlink=False),
        steps.AddSourceRoute("eth0", 1000, "0.0.0.0/0", "10.0.0.254", onlink=False),
        steps.AddSourceRoute("eth1", 1001, "10.0.9.0/24", "", onlink=False),
        steps.AddSourceRoute("eth1", 1001, "0.0.0.0/0", "172.31.0.1", onlink=True),
        steps.AddSourceRoute("eth1", 1001, "10.8.0.0/16", "10.0.9.8", onlink=False),
        steps.AddSourceRule("10.0.0.1", 1000),
        steps.AddSourceRule("10.0.9.2", 1001),
    ]
    apart = replace(second, addresses=("10.1.9.2/24",))
    assert _for_sources(Network(VM, (first, apart))) == []


@pytest.mark.parametrize(
    ("nic", "seen", "cause"),
    [
        (NIC, Seen(host={"br0": HostLink("br0", 9, "")}), "br0 is no Linux bridge"),
        (NIC, Seen(host={NIC.host_name: HostLink(NIC.host_name, 9, "veth")}), "is not ONEDock's"),
        (NIC, Seen(True, inner=(InnerLink("eth0", 4, "dummy"),)), "is not ONEDock's"),
        (replace(NIC, phydev="eth7"), Seen(), "physical device eth7 is missing"),
        (replace(NIC, phydev="p0"), Seen(host={"p0": HostLink("p0", 3, master="br9")}), "is in bridge br9, not br0"),
    ],
)
def test_a_conflict_is_terminal_and_names_cause_and_remedy(nic: Nic, seen: Seen, cause: str) -> None:
    with pytest.raises(TerminalError, match=cause) as caught:
        plan(Network(VM, (nic,)), seen)
    assert cause in str(caught.value)[:100]
    assert ";" in str(caught.value)


def test_a_physical_device_without_master_is_plugged_in_and_raised() -> None:
    made = plan(Network(VM, (replace(NIC, phydev="p0"),)), Seen(host={"p0": HostLink("p0", 3)}))
    assert made.index(steps.CreateBridge("br0", None)) < made.index(steps.PlugIn("p0", "br0"))
    assert steps.RaiseHostLink("p0") in made


def test_a_bridge_is_unused_when_only_the_way_out_is_left() -> None:
    ours = HostLink("br0", 9, "bridge", BRIDGE_GROUP)
    assert is_our_bridge(ours)
    assert not is_our_bridge(replace(ours, group=0))
    phydev, uplink, vm = HostLink("p0", 3), HostLink("p0.7", 4, "vlan", BRIDGE_GROUP), HostLink("one-8-0", 5, "veth")
    assert is_unused([phydev, uplink], frozenset({"p0"}))
    assert not is_unused([phydev, vm], frozenset({"p0"}))
    assert not is_unused([replace(uplink, group=0)], frozenset())


@pytest.mark.parametrize(
    "broken",
    [
        {"name": "../../etc"},
        {"name": ".."},
        {"name": "lo"},
        {"name": "sixteen-letters!"},
        {"bridge": "abcdefghijklmnop"},
        {"bridge": "all"},
        {"bridge": "a/b"},
        {"bridge": ""},
        {"host_name": "-a"},
        {"host_name": "br0"},
        {"phydev": "eth 0"},
        {"mac": "02:00"},
        {"mac": "01:00:00:00:00:01"},
        {"mac": "00:00:00:00:00:00"},
        {"addresses": ("10.0.0.1",)},
        {"addresses": ("10.0.0.1/33",)},
        {"addresses": ("224.0.0.1/24",)},
        {"addresses": ("fe80::1%eth0/64",)},
        {"addresses": ("10.0.0.1/24", "10.0.0.1/25")},
        {"gateways": ("10.0.0.1", "10.0.0.2")},
        {"gateways": ("gw.example",)},
        {"mtu": 10},
        {"mtu": 1000, "addresses": ("fd00::1/64",)},
        {"index": -1},
    ],
)
def test_what_no_kernel_could_do_is_refused(broken: dict[str, object]) -> None:
    check_network(Network(VM, (NIC,)))
    with pytest.raises(InvalidRequestError, match=";"):
        check_network(Network(VM, (replace(NIC, **broken),)))  # type: ignore[arg-type]


def test_nics_do_not_share_names_and_devices_are_in_one_bridge() -> None:
    with pytest.raises(InvalidRequestError, match="same index"):
        check_network(Network(VM, (NIC, NIC)))
    other = replace(NIC, index=1, name="eth1", host_name="one-22001-1", bridge="br1", phydev="p0")
    with pytest.raises(InvalidRequestError, match="cannot be in br0 and br1"):
        check_network(Network(VM, (replace(NIC, phydev="p0"), other)))
    with pytest.raises(InvalidRequestError, match="no VM id"):
        check_network(Network(VmId(2**30)))
    with pytest.raises(InvalidRequestError, match="no container id"):
        check_container("../../" + "a" * 58)


@pytest.mark.parametrize(
    ("have", "want", "changes"),
    [
        (("10.0.0.1/24", "fd::1/64"), ("10.0.0.2/24", "fd::2/64"), "+10.0.0.2/24 +fd::2/64 -10.0.0.1/24 -fd::1/64"),
        (("10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24"), ("10.0.0.1/24", "10.0.0.3/24"), "-10.0.0.2/24"),
        (("10.0.0.1/24", "10.0.0.2/24"), ("10.0.0.2/24", "10.0.0.1/24"), "-10.0.0.1/24 +10.0.0.1/24"),
        (("10.0.0.1/24",), ("10.0.0.2/24", "10.0.0.1/24"), "-10.0.0.1/24 +10.0.0.2/24 +10.0.0.1/24"),
        (("fd00::1/64", "10.0.0.1/24"), ("fd00::1/48",), "-fd00::1/64 +fd00::1/48 -10.0.0.1/24"),
    ],
)  # fmt: skip
def test_new_addresses_come_before_old_ones_go(have: tuple[str, ...], want: tuple[str, ...], changes: str) -> None:
    """With its last IPv4 address, a NIC would lose its routes; a subnet's addresses keep their order."""
    planned = plan_addresses(replace(NIC, addresses=want), InnerLink("eth0", 7, addresses=have), None)
    said = " ".join(map(in_words, planned))
    assert said.replace("add address eth0 ", "+").replace("remove address eth0 ", "-") == changes


BESIDE = replace(NIC, index=1, name="eth1", host_name=f"one-{VM}-1", gateways=())


def test_leased_addresses_share_subnets_too() -> None:
    leased = Leased("10.0.0.20/24", (Route("0.0.0.0/0", "10.0.0.253"), Route("10.9.0.0/16", "10.0.0.20")))
    by_dhcp = replace(BESIDE, addresses=(), method=Method.DHCP, leased=leased)
    assert _for_sources(Network(VM, (NIC, by_dhcp)))[2:] == [
        steps.SetIpv4("eth1", "arp_ignore", 1),
        steps.SetIpv4("eth1", "arp_announce", 2),
        steps.AddSourceRoute("eth0", 1000, "10.0.0.0/24", "", onlink=False),
        steps.AddSourceRoute("eth0", 1000, "0.0.0.0/0", "10.0.0.254", onlink=False),
        steps.AddSourceRoute("eth1", 1001, "10.0.0.0/24", "", onlink=False),
        steps.AddSourceRoute("eth1", 1001, "0.0.0.0/0", "10.0.0.253", onlink=False),
        steps.AddSourceRule("10.0.0.1", 1000),
        steps.AddSourceRule("10.0.0.20", 1001),
    ]
    waiting = replace(by_dhcp, leased=None)
    assert [one for one in _for_sources(Network(VM, (NIC, waiting))) if not isinstance(one, steps.SetIpv4)] == []
    assert _for_sources(Network(VM, (waiting,))) == []


def test_what_a_nic_had_until_now_is_not_the_guests() -> None:
    skip = replace(NIC, addresses=(), gateways=(), method=Method.SKIP, method6=Method.SKIP)
    inner = InnerLink(
        "eth0", 7, addresses=("10.0.0.1/24", "10.0.0.66/24"), gateways=(("10.0.0.254", 100), ("10.0.0.66", 5)),
        advertised=("2001:db8::7/64",), routers=("fe80::1",), ipv6=(("disable_ipv6", 0), ("accept_ra", 2)),
    )  # fmt: skip
    formerly = replace(NIC, method6=Method.AUTO)
    assert list(plan_addresses(skip, inner, formerly)) == [steps.RemoveAddress("eth0", "10.0.0.1/24")]
    assert [one for one in plan_routes(skip, inner, formerly) if isinstance(one, steps.RemoveGateway)] == [
        steps.RemoveGateway("eth0", "10.0.0.254", 100)
    ]
    assert list(plan_unheard(skip, inner, formerly)) == [
        steps.RemoveAddress("eth0", "2001:db8::7/64"),
        steps.RemoveRouter("eth0", "fe80::1"),
    ]
    assert list(plan_ipv6(skip, inner, formerly)) == [steps.SetIpv6("eth0", "accept_ra", 0)]
    for same in (skip, None):
        assert list(plan_addresses(skip, inner, same)) == []
        assert list(plan_unheard(skip, inner, same)) == []
        assert list(plan_ipv6(skip, inner, same)) == []
    assert list(plan_unheard(formerly, inner, formerly)) == []


def test_what_the_node_had_before_says_nothing_of_the_vms_inside() -> None:
    skip = replace(NIC, method6=Method.SKIP)
    inner = InnerLink("eth0", 7, peer=8, mac=NIC.mac, advertised=("2001:db8::7/64",), routers=("fe80::1",))
    seen = Seen(
        namespace=True,
        inner=(inner,),
        host={NIC.host_name: HostLink(NIC.host_name, 8, "veth", peer=7, group=vm_group(VM))},
    )
    before = replace(skip, method6=Method.STATIC, addresses=(), phydev="p0")
    steps_done = plan(Network(VM, (skip,)), seen, Network(VM, (skip, before)))
    assert not [one for one in steps_done if isinstance(one, steps.RemoveAddress | steps.RemoveRouter)]


@pytest.mark.parametrize(
    ("uplink", "most"),
    [
        (Vlan("p0.7", "p0", 7), 1500),
        (Vxlan("p0.7", "p0", 7, group="239.0.0.7"), 1450),
        (Vxlan("p0.7", "p0", 7, remotes=("192.0.2.3",)), 1450),
        (Vxlan("p0.7", "p0", 7, remotes=("2001:db8::3",)), 1430),
    ],
)
def test_an_uplink_that_its_device_cannot_carry_is_refused_with_what_it_can(uplink: Uplink, most: int) -> None:
    device = HostLink("p0", 3, up=True)
    seen = Seen(host={"p0": device}, own_addresses=((3, "192.0.2.2"), (3, "2001:db8::2")))

    def steps_to(mtu: int, seen: Seen = seen) -> tuple[steps.Step, ...]:
        return plan(Network(VM, (replace(NIC, mtu=1280, uplink=replace(uplink, mtu=mtu)),)), seen)

    assert [step.mtu for step in steps_to(most) if isinstance(step, steps.CreateUplink)] == [most]
    with pytest.raises(TerminalError, match=rf"{uplink.kind} link p0.7 cannot have an MTU of {most + 1}.*MTU={most} "):
        steps_to(most + 1)
    world = World(VM, seen)
    for step in steps_to(1300):
        world.apply(step)
    with pytest.raises(TerminalError, match=f"MTU={most} in the virtual network"):
        steps_to(1501, world.seen())


def test_a_tunnel_over_ipv6_has_an_address_of_its_device() -> None:
    """Without one, the kernel makes a tunnel over IPv4, and does not take the others' addresses."""
    tunnel = Vxlan("p0.7", "p0", 7, remotes=("2001:db8::3",))
    wanted = Network(VM, (replace(NIC, uplink=tunnel),))
    own = ((3, "192.0.2.2"), (3, "2001:db8::2"), (3, "2001:db8::9"))
    seen = Seen(host={"p0": HostLink("p0", 3, up=True)}, own_addresses=own)
    [made] = [step for step in plan(wanted, seen) if isinstance(step, steps.CreateUplink)]
    assert ("local6", "2001:db8::2") in made.attributes
    assert made.lower == "p0"
    with pytest.raises(TerminalError, match=r"no IPv6 address on this node.*VXLAN_REMOTES"):
        plan(wanted, replace(seen, own_addresses=own[:1]))
    by_daemon = Network(VM, (replace(NIC, uplink=replace(tunnel, remotes=(), tep="local_ip")),))
    for addresses, local in ((own, ("local", "192.0.2.2")), (own[1:], ("local6", "2001:db8::2"))):
        [made] = [
            step
            for step in plan(by_daemon, replace(seen, own_addresses=addresses))
            if isinstance(step, steps.CreateUplink)
        ]
        assert local in made.attributes
        assert made.lower is None


@given(
    st.builds(Bandwidth, rates := st.integers(1, 2**22 - 1).map(lambda kb: kb * 1024), rates, st.integers(0, 2**40)),
    st.integers(68, 65535),
)
def test_a_limit_is_what_the_kernel_can_be_told_and_shows_again(limit: Bandwidth, mtu: int) -> None:
    def shown(size: int, rate: int) -> int:
        """By the kernel, which keeps ticks of 64 ns with 32 bits."""
        ticks = size * 1_000_000_000 // rate // 64
        assert 0 <= ticks < 2**32
        return ticks * 64 * rate // 1_000_000_000

    wanted = token_bucket(limit, mtu)
    assert max(wanted.rate, wanted.peak, wanted.burst, wanted.peak_burst, wanted.queue) < 2**32
    assert min(wanted.burst, wanted.peak_burst or wanted.burst) >= 2 * mtu
    peak_burst = shown(wanted.peak_burst, wanted.peak) if wanted.peak else 0
    have = replace(wanted, burst=shown(wanted.burst, wanted.rate), peak_burst=peak_burst)
    inner = InnerLink("eth0", 7, mtu=mtu, limited=True, bucket=have)
    assert list(plan_limits(replace(NIC, outbound=limit), None, inner)) == []
