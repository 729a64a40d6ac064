"""The pure twin of kernel and ``apply``: what becomes of what was seen when a plan is carried out."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, assert_never

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.plan.methods import NEW
from onedock.nodeside.agent.plan.routes import LINK_LOCAL
from onedock.nodeside.agent.seen import BRIDGE_GROUP, HostLink, InnerLink, Seen, SourceRoute, TokenBucket, vm_group
from onedock.reconcilers.model import VmId


class World:
    """A kernel with one VM, beginning as it was seen."""

    def __init__(self, vm: VmId, seen: Seen) -> None:
        self._vm = vm
        self.namespace = seen.namespace
        self.loopback_up = seen.loopback_up
        self.inner = {link.name: link for link in seen.inner}
        self.host = dict(seen.host)
        self.own = seen.own_addresses
        self.rules = dict(seen.rules)
        self.source_rules = seen.source_rules
        self._next = 1000

    def seen(self) -> Seen:
        uplinks: dict[str, frozenset[str]] = {}
        for link in self.host.values():
            if link.kind in {"vlan", "vxlan"} and link.group == BRIDGE_GROUP and link.master is not None:
                uplinks[link.master] = uplinks.get(link.master, frozenset()) | {link.name}
        inner, host, rules = tuple(self.inner.values()), dict(self.host), dict(self.rules)
        return Seen(self.namespace, self.loopback_up, inner, self.source_rules, host, uplinks, self.own, rules=rules)

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
                assert gone.group in {vm_group(self._vm), BRIDGE_GROUP}, "only what is ours may be deleted"
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
            case steps.FilterVlans(name, on):
                assert self.host[name].group == BRIDGE_GROUP
                self.host[name] = replace(self.host[name], filters_vlans=on)
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
                link = self.inner[name]
                rest = [one for one in link.addresses if one != address]
                assert len(rest) == len(link.addresses) - 1
                # The next one of an IPv4 subnet is made its first, and gets the route to it.
                same = [one for one in link.addresses if ":" not in one and _subnet(one) == _subnet(address)]
                promoted = {_subnet(address)} if link.up and same[1:] and same[0] == address else set()
                self.inner[name] = replace(link, addresses=tuple(rest), connected=link.connected | promoted)
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
            case steps.RemoveRouter(name, gateway):
                link = self.inner[name]
                self.inner[name] = replace(link, routers=tuple(one for one in link.routers if one != gateway))
            case steps.RemoveGateway(name, gateway, metric):
                rest_of = tuple(one for one in self.inner[name].gateways if one != (gateway, metric))
                self.inner[name] = replace(self.inner[name], gateways=rest_of)
            case steps.AddGateway(name, gateway, metric, onlink):
                self._check_route(name, gateway, onlink=onlink)
                link = self.inner[name]
                self.inner[name] = replace(link, gateways=(*link.gateways, (gateway, metric)))
            case steps.AddSourceRoute(name, table, destination, gateway, onlink):
                self._add_source_route(name, (table, destination, gateway), onlink=onlink)
            case steps.RemoveSourceRoute(name, table, destination, gateway):
                link = self.inner[name]
                assert (table, destination, gateway) in link.source_routes
                rest_from = link.source_routes - {(table, destination, gateway)}
                self.inner[name] = replace(link, source_routes=rest_from)
            case steps.AddSourceRule(source, table):
                assert (source, table) not in self.source_rules
                self.source_rules |= {(source, table)}
            case steps.RemoveSourceRule(source, table):
                assert (source, table) in self.source_rules
                self.source_rules -= {(source, table)}
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

    def _add_source_route(self, name: str, route: SourceRoute, *, onlink: bool) -> None:
        link, (table, destination, gateway) = self.inner[name], route
        assert link.up, "the kernel takes no route over a link that is down"
        assert all(one[:2] != (table, destination) for other in self.inner.values() for one in other.source_routes)
        if gateway and not onlink:
            near = [one for one in link.source_routes if one[0] == table and not one[2]]
            assert any(ip_address(gateway) in ip_network(one[1]) for one in near)
        self.inner[name] = replace(link, source_routes=link.source_routes | {route})

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
        carried = step.carried or self.host[step.bridge].mtu
        mtu = step.mtu or carried
        group = vm_group(step.vm)
        self.host[step.host_name] = HostLink(
            step.host_name, ours, "veth", group, mtu=max(mtu, carried), up=True, master=step.bridge, peer=theirs
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
