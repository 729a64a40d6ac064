"""The agent's plan: it converges from any state, then rests; it never touches what is not ONEDock's."""

from dataclasses import replace
from ipaddress import ip_interface
from typing import Any, assert_never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.describe import describe
from onedock.nodeside.agent.plan import is_our_bridge, is_unused, plan
from onedock.nodeside.agent.plan.methods import NEW
from onedock.nodeside.agent.plan.routes import LINK_LOCAL
from onedock.nodeside.agent.seen import (
    BRIDGE_ALIAS,
    BRIDGE_GROUP,
    HostLink,
    InnerLink,
    Seen,
    TokenBucket,
    vm_alias,
    vm_group,
)
from onedock.nodeside.agent.validate import InvalidRequestError, check_container, check_network
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Method, Route, TrunkPort, Uplink, Vlan, Vxlan

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
GATEWAYS = ("10.0.0.254", "172.31.0.1", "2001:DB8::FF")


class World:
    """The pure twin of kernel and ``netlink``: applies steps to what was seen."""

    def __init__(self, seen: Seen) -> None:
        self.namespace = seen.namespace
        self.loopback_up = seen.loopback_up
        self.inner = {link.name: link for link in seen.inner}
        self.host = dict(seen.host)
        self.own = seen.own_addresses
        self.rules = dict(seen.rules)
        self._next = 1000

    def seen(self) -> Seen:
        uplinks: dict[str, frozenset[str]] = {}
        for link in self.host.values():
            if link.kind in {"vlan", "vxlan"} and link.group == BRIDGE_GROUP and link.master is not None:
                uplinks[link.master] = uplinks.get(link.master, frozenset()) | {link.name}
        inner, host, rules = tuple(self.inner.values()), dict(self.host), dict(self.rules)
        return Seen(self.namespace, self.loopback_up, inner, host, uplinks, self.own, rules=rules)

    def apply(self, step: steps.Step) -> None:
        match step:
            case steps.CreateNamespace():
                assert not self.namespace
                self.namespace = True
            case steps.RaiseLoopback():
                assert self.namespace
                self.loopback_up = True
            case steps.CreateBridge(name, mtu):
                assert name not in self.host
                self.host[name] = HostLink(name, self._index(), "bridge", BRIDGE_GROUP, mtu=mtu or 1500, up=True)
            case steps.CreateUplink():
                self._create_uplink(step)
            case steps.CreateVeth():
                self._create_veth(step)
            case steps.DeleteHostLink(name):
                gone = self.host.pop(name)
                assert gone.group in {vm_group(VM), BRIDGE_GROUP}, "only what is ours may be deleted"
                self.inner = {link.name: link for link in self.inner.values() if link.peer != gone.index}
            case steps.Label(name, alias):
                self.host[name] = replace(self.host[name], alias=alias)
            case steps.PlugIn(name, bridge):
                assert self.host[bridge].kind == "bridge"
                self.host[name] = replace(self.host[name], master=bridge)
            case steps.Unplug(name):
                self.host[name] = replace(self.host[name], master=None)
            case steps.AddRemote(name, address):
                assert address not in self.host[name].remotes
                self.host[name] = replace(self.host[name], remotes=self.host[name].remotes | {address})
            case steps.RemoveRemote(name, address):
                assert address in self.host[name].remotes
                self.host[name] = replace(self.host[name], remotes=self.host[name].remotes - {address})
            case steps.FilterVlans(name):
                assert self.host[name].group == BRIDGE_GROUP
                self.host[name] = replace(self.host[name], filters_vlans=True)
            case steps.AddPortVlans(name, vlans):
                self._add_vlans(name, vlans)
            case steps.RemovePortVlans(name, vlans):
                have = self._vlans(name)
                assert have >= set(vlans)
                self.host[name] = replace(self.host[name], vlans=frozenset(have - set(vlans)))
            case steps.Shape():
                bucket = TokenBucket(step.rate, step.burst, step.queue, step.peak, step.peak_burst)
                self._limit(step.name, step.inside, limited=True, bucket=bucket)
            case steps.Unshape(name, inside):
                self._limit(name, inside, limited=False, bucket=None)
            case steps.RaiseHostLink(name):
                self.host[name] = replace(self.host[name], up=True)
            case steps.SetHostMtu(name, mtu):
                self.host[name] = replace(self.host[name], mtu=mtu)
            case steps.SetMac(name, mac):
                self.inner[name] = replace(self.inner[name], mac=mac)
            case steps.SetMtu(name, mtu):
                self.inner[name] = replace(self.inner[name], mtu=mtu)
            case steps.RemoveAddress(name, address):
                rest = [one for one in self.inner[name].addresses if one != address]
                assert len(rest) == len(self.inner[name].addresses) - 1
                self.inner[name] = replace(self.inner[name], addresses=tuple(rest))
                self._forget_subnets(name)
            case steps.AddAddress(name, address):
                assert address not in self.inner[name].addresses
                link = self.inner[name]
                assert ":" not in address or not dict(link.ipv6).get("disable_ipv6"), "there is no IPv6"
                if address.startswith("fe80:"):
                    self.inner[name] = replace(link, link_local=True, connected=link.connected | {LINK_LOCAL})
                    return
                first = ":" in address or all(_subnet(one) != _subnet(address) for one in link.addresses)
                connected = link.connected | ({_subnet(address)} if link.up and first else set())
                self.inner[name] = replace(link, addresses=_kernel_order(link, address), connected=connected)
            case steps.RaiseNic(name):
                link = self.inner[name]
                ipv6 = dict(link.ipv6).get("disable_ipv6") == 0
                connected = link.connected | set(map(_subnet, link.addresses)) | ({LINK_LOCAL} if ipv6 else set())
                self.inner[name] = replace(link, up=True, carrier=True, connected=connected, link_local=ipv6)
            case steps.SetIpv4(name, key, value):
                sysctls = tuple((dict(self.inner[name].ipv4) | {key: value}).items())
                self.inner[name] = replace(self.inner[name], ipv4=sysctls)
            case steps.SetIpv6(name, key, value):
                self._set_ipv6(name, key, value)
            case steps.AddConnected(name, destination):
                assert self.inner[name].up
                assert destination not in self.inner[name].connected
                self.inner[name] = replace(self.inner[name], connected=self.inner[name].connected | {destination})
            case steps.AddRoute(name, destination, gateway, metric, onlink):
                self._check_route(name, gateway, onlink=onlink)
                added = (destination, gateway, metric)
                assert added not in self.inner[name].routes
                self.inner[name] = replace(self.inner[name], routes=(*self.inner[name].routes, added))
            case steps.RemoveRoute(name, destination, gateway, metric):
                routes = tuple(one for one in self.inner[name].routes if one != (destination, gateway, metric))
                assert len(routes) < len(self.inner[name].routes)
                self.inner[name] = replace(self.inner[name], routes=routes)
            case steps.RemoveGateway(name, gateway, metric):
                rest_of = tuple(one for one in self.inner[name].gateways if one != (gateway, metric))
                self.inner[name] = replace(self.inner[name], gateways=rest_of)
            case steps.AddGateway(name, gateway, metric, onlink):
                self._check_route(name, gateway, onlink=onlink)
                link = self.inner[name]
                self.inner[name] = replace(link, gateways=(*link.gateways, (gateway, metric)))
            case steps.ConfigureSwitch():
                raise AssertionError("Open vSwitch has tests of its own")
            case steps.LoadRules(scope, ruleset):
                self.rules[scope] = ruleset.digest
            case steps.DropRules(scope):
                del self.rules[scope]
            case _:
                assert_never(step)

    def _create_uplink(self, step: steps.CreateUplink) -> None:
        assert step.name not in self.host
        assert step.bridge is not None
        assert self.host[step.bridge].kind == "bridge"
        rivals = [link for link in self.host.values() if link.master == step.bridge and link.kind in {"vlan", "vxlan"}]
        assert all(link.group != BRIDGE_GROUP for link in rivals), "two uplinks would join two networks"
        self.host[step.name] = HostLink(
            step.name,
            self._index(),
            step.kind,
            BRIDGE_GROUP,
            mtu=step.mtu or 1500,
            up=True,
            master=step.bridge,
            peer=self.host[step.lower].index if step.lower else 0,
            attributes=frozenset(step.attributes) | {("tos", "0")},
        )

    def _vlans(self, name: str) -> frozenset[steps.PortVlan]:
        vlans = self.host[name].vlans
        return frozenset({(1, True)}) if vlans is None else vlans

    def _add_vlans(self, name: str, vlans: tuple[steps.PortVlan, ...]) -> None:
        vids = {vid for vid, _ in vlans}
        own = any(is_own for _, is_own in vlans)
        have = {(vid, is_own and not own) for vid, is_own in self._vlans(name) if vid not in vids}
        self.host[name] = replace(self.host[name], vlans=frozenset(have | set(vlans)))

    def _limit(self, name: str, inside: bool, **limit: Any) -> None:
        links: dict[str, Any] = self.inner if inside else self.host
        links[name] = replace(links[name], **limit)

    def _set_ipv6(self, name: str, key: str, value: int) -> None:
        link = self.inner[name]
        sysctls = tuple((dict(link.ipv6) | {key: value}).items())
        self.inner[name] = replace(link, ipv6=sysctls)
        if (key, value) == ("disable_ipv6", 1):
            addresses = tuple(one for one in link.addresses if ":" not in one)
            self.inner[name] = replace(self.inner[name], addresses=addresses, link_local=False)
            self._forget_subnets(name)

    def _forget_subnets(self, name: str) -> None:
        link = self.inner[name]
        subnets = set(map(_subnet, link.addresses)) | ({LINK_LOCAL} if link.link_local else set())
        self.inner[name] = replace(link, connected=link.connected & subnets)

    def _check_route(self, name: str, gateway: str, *, onlink: bool) -> None:
        link = self.inner[name]
        assert link.up, "the kernel takes no route over a link that is down"
        reachable = [one for one in link.addresses if _in_subnet(gateway, one)]
        assert reachable or onlink
        if not onlink:
            assert any(_subnet(one) in link.connected for one in reachable), "the kernel knows no way to the gateway"

    def _create_veth(self, step: steps.CreateVeth) -> None:
        assert step.host_name not in self.host
        assert step.name not in self.inner
        assert step.bridge is not None
        assert self.host[step.bridge].kind == "bridge"
        ours, theirs = self._index(), self._index()
        mtu = step.mtu or 1500
        group = vm_group(step.vm)
        self.host[step.host_name] = HostLink(
            step.host_name, ours, "veth", group, mtu=mtu, up=True, master=step.bridge, peer=theirs
        )
        self.inner[step.name] = InnerLink(step.name, theirs, "veth", step.mac, mtu, peer=ours, ipv6=tuple(NEW.items()))

    def _index(self) -> int:
        self._next += 1
        return self._next


def _subnet(address: str) -> str:
    return str(ip_interface(address).network)


def _in_subnet(gateway: str, address: str) -> bool:
    return ip_interface(gateway).ip in ip_interface(address).network


def _kernel_order(link: InnerLink, address: str) -> tuple[str, ...]:
    """IPv4: first addresses of each subnet, then the others; IPv6: newest first."""
    everything = [*link.addresses, address]
    version4 = [one for one in everything if ":" not in one]
    firsts: dict[object, str] = {}
    for one in version4:
        firsts.setdefault(ip_interface(one).network, one)
    primary = [one for one in version4 if one in firsts.values()]
    secondary = [one for one in version4 if one not in firsts.values()]
    return (*primary, *secondary, *reversed([one for one in everything if ":" in one]))


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
        return World(Seen(host=host, own_addresses=own)).seen()
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
                ipv6=tuple(draw(st.sampled_from(((), NEW.items(), (NEW | {"accept_ra": 1}).items())))),
                carrier=draw(st.booleans()),
                limited=(limited := draw(st.booleans())),
                bucket=draw(st.sampled_from((None, TokenBucket(10_000, 3036, 24288)))) if limited else None,
            )
        )
    return World(Seen(True, draw(st.booleans()), tuple(inner), host, own_addresses=own)).seen()


@given(networks(), worlds())
@settings(max_examples=400, deadline=None)
def test_plan_converges_then_rests(wanted: Network, seen: Seen) -> None:
    world = World(seen)
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
    world = World(seen)
    for step in plan(wanted, seen):
        world.apply(step)
    for name, link in shared.items():
        assert replace(world.host[name], up=link.up) == link


NIC = Nic(0, "eth0", f"one-{VM}-0", "02:00:0a:00:00:01", "br0", ("10.0.0.1/24",), ("10.0.0.254",))


def test_a_new_vm_takes_one_message_for_its_veth() -> None:
    assert plan(Network(VM, (NIC,)), Seen(host={"br0": HostLink("br0", 9, "bridge", mtu=9000, up=True)})) == (
        steps.CreateNamespace(),
        steps.RaiseLoopback(),
        steps.CreateVeth(VM, NIC.host_name, "eth0", NIC.mac, "br0", 9000),
        steps.Label(NIC.host_name, f"onedock:{VM}"),
        steps.AddAddress("eth0", "10.0.0.1/24"),
        steps.RaiseNic("eth0"),
        steps.AddGateway("eth0", "10.0.0.254", 100, onlink=False),
    )


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
