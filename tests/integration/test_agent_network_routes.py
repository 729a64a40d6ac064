"""Routes, metrics and methods of NICs; several NICs in one network; a router that advertises."""

import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.plumbing import NEEDS_ROOT, address, nic, ping
from tests.support.router import advertise
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, VmId
from onedock.reconcilers.nic_parts import Method, Route

pytestmark = NEEDS_ROOT

A, B = VmId(220_200), VmId(220_201)


def routes(agent: PrivateAgent, *which: str) -> list[tuple[str, str | None, str, int | None]]:
    shown = agent.ip(*which, "route", netns=f"one-{A}")
    return [(one["dst"], one.get("gateway"), one["dev"], one.get("metric")) for one in shown]


def addresses(agent: PrivateAgent, link: str = "eth0") -> list[str]:
    shown = agent.ip("addr", "show", "dev", link, netns=f"one-{A}")[0]["addr_info"]
    return [f"{one['local']}/{one['prefixlen']}" for one in shown]


async def test_routes_have_their_gateways_and_metrics(agent: PrivateAgent, client: AgentClient) -> None:
    first = nic(
        A,
        addresses=("10.77.0.10/24", "2001:db8::a/64"),
        gateways=("10.77.0.1", "2001:db8::1"),
        routes=(
            Route("10.8.0.0/16", "10.77.0.2"),
            Route("10.9.1.7/16", "192.0.2.9"),
            Route("2001:db8:9::/48", "fe80::9"),
        ),
        metric=50,
        metric6=60,
    )
    second = nic(A, 1, gateways=("10.77.1.1",), routes=(Route("10.8.0.0/16", "10.77.1.2"),))
    wanted = Network(A, (first, second))
    assert (await client.ensure(wanted)).provides(wanted)
    assert set(routes(agent)) == {
        ("default", "10.77.0.1", "eth0", 50),
        ("default", "10.77.1.1", "eth1", 101),
        ("10.8.0.0/16", "10.77.0.2", "eth0", 50),
        ("10.8.0.0/16", "10.77.1.2", "eth1", 101),
        ("10.9.0.0/16", "192.0.2.9", "eth0", 50),
        ("10.77.0.0/24", None, "eth0", None),
        ("10.77.1.0/24", None, "eth1", None),
    }
    assert {("default", "2001:db8::1", "eth0", 60), ("2001:db8:9::/48", "fe80::9", "eth0", 60)} <= set(
        routes(agent, "-6")
    )

    changed = Network(A, (nic(A, addresses=first.addresses, gateways=("10.77.0.1",), metric=70), second))
    assert (await client.ensure(changed)).provides(changed)
    assert [one for one in routes(agent) if one[2] == "eth0"] == [
        ("default", "10.77.0.1", "eth0", 70),
        ("10.77.0.0/24", None, "eth0", None),
    ]


async def test_two_routes_to_one_place_need_two_metrics(client: AgentClient) -> None:
    gateways: dict[str, Any] = {"gateways": ("10.77.0.1",)}
    with pytest.raises(TerminalError, match="NIC 0 and NIC 1 both have a route to default by IPv4 of metric 101"):
        await client.ensure(Network(A, (nic(A, metric=101, **gateways), nic(A, 1, **gateways))))


def _in_vm(*argv: str) -> Callable[[PrivateAgent], object]:
    return lambda agent: agent.run(["ip", *argv], netns=f"one-{A}")


@pytest.mark.parametrize(
    "damage",
    [
        _in_vm("route", "flush", "dev", "eth0"),
        _in_vm("-6", "route", "flush", "dev", "eth0"),
        _in_vm("route", "del", "10.77.0.0/24"),
        _in_vm("route", "del", "10.8.0.0/16"),
        _in_vm("route", "add", "10.99.0.0/16", "via", "10.77.0.3", "proto", "static"),
        _in_vm("-6", "route", "del", "2001:db8::/64", "dev", "eth0"),
        _in_vm("addr", "flush", "dev", "eth0"),
        _in_vm("addr", "flush", "dev", "eth0", "scope", "link"),
        _in_vm("addr", "del", "10.77.0.10/24", "dev", "eth0"),
        _in_vm("link", "set", "eth0", "down"),
    ],
)
async def test_routes_are_put_back(
    agent: PrivateAgent, client: AgentClient, damage: Callable[[PrivateAgent], object]
) -> None:
    wanted = Network(
        A,
        (
            nic(
                A,
                addresses=("10.77.0.10/24", "10.77.0.11/24", "10.77.0.12/32", "2001:db8::a/64", "2001:db8::b/64"),
                gateways=("10.77.0.1", "2001:db8::1"),
                routes=(Route("10.8.0.0/16", "10.77.0.2"),),
            ),
        ),
    )
    await client.ensure(wanted)
    await client.ensure(Network(B, (nic(B, addresses=(nic(B).addresses[0], "2001:db8::77/64")),)))
    before = sorted(routes(agent)), sorted(map(str, routes(agent, "-6")))
    with suppress(subprocess.CalledProcessError):  # healed before the second half of the damage
        damage(agent)

    assert (await client.ensure(wanted)).provides(wanted)
    assert (sorted(routes(agent)), sorted(map(str, routes(agent, "-6")))) == before
    assert ping(agent, A, address(B))
    await eventually(lambda: ping(agent, A, "2001:db8::77"), what="IPv6 works as well")


async def test_several_nics_in_one_network_and_one_subnet(agent: PrivateAgent, client: AgentClient) -> None:
    same = ("10.77.0.10/24",)
    wanted = Network(A, (nic(A, addresses=same), nic(A, 1, addresses=("10.77.0.20/24",)), nic(A, 2, addresses=same)))
    assert (await client.ensure(wanted)).provides(wanted)
    await client.ensure(Network(B, (nic(B),)))
    for target in ("10.77.0.10", "10.77.0.20"):
        assert ping(agent, B, target)
    assert ping(agent, A, address(B), source="eth1")


async def test_a_router_is_listened_to_only_where_asked_for(agent: PrivateAgent, client: AgentClient) -> None:
    async def ensured(method: Method) -> None:
        own = () if method is Method.DISABLE else ("2001:db8::a/64",)
        wanted = Network(A, (nic(A, method6=method, addresses=(nic(A).addresses[0], *own)),))
        assert (await client.ensure(wanted)).provides(wanted)

    def advertised() -> list[str]:
        advertise(agent, "eth0", "2001:db8:5::", netns=f"one-{B}")
        return [one for one in addresses(agent) if one.startswith("2001:db8:5:")]

    await client.ensure(Network(B, (nic(B),)))

    def settled() -> bool:
        shown = agent.ip("addr", "show", "dev", "eth0", netns=f"one-{B}")[0]["addr_info"]
        return any(one["scope"] == "link" and not one.get("tentative") for one in shown)

    await eventually(settled, what="the router has an address of the link")
    await ensured(Method.STATIC)
    assert not advertised()
    await ensured(Method.AUTO)
    await eventually(advertised, what="an address by the router's prefix")
    assert (await client.observe(A)) == await client.ensure(
        Network(A, (nic(A, method6=Method.AUTO, addresses=(nic(A).addresses[0], "2001:db8::a/64")),))
    )
    assert advertised(), "what the router gave is left alone"

    await ensured(Method.DISABLE)
    assert [one for one in addresses(agent) if ":" in one] == []
    await ensured(Method.STATIC)
    assert "2001:db8::a/64" in addresses(agent)
    assert not advertised()


async def test_what_a_guest_does_itself_is_left_alone(agent: PrivateAgent, client: AgentClient) -> None:
    wanted = Network(A, (nic(A, method=Method.SKIP, method6=Method.SKIP, addresses=()),))
    await client.ensure(wanted)
    own = (["addr", "add", "10.3.3.3/24", "dev", "eth0"], ["route", "add", "default", "via", "10.3.3.1"])
    for command in own:
        _in_vm(*command)(agent)
    assert (await client.ensure(wanted)).provides(wanted)
    assert "10.3.3.3/24" in addresses(agent)
    assert ("default", "10.3.3.1", "eth0", None) in routes(agent)


async def test_what_cannot_be_put_back_is_said(agent: PrivateAgent, client: AgentClient) -> None:
    wanted = Network(A, (nic(A),))
    await client.ensure(wanted)
    agent.run(["ip", "link", "del", "odt-br0"])
    await eventually(lambda: "odt-br0" in str(agent.ip("link")), what="the agent makes the bridge again")
    at_once = "echo 'link del odt-br0\nlink add odt-br0 type veth peer odt-other' | ip -batch -"

    def taken() -> bool:
        """The agent is quick: it may have its bridge again between the two."""
        with suppress(subprocess.CalledProcessError):
            agent.run(["sh", "-c", at_once])
        return "odt-other" in str(agent.ip("link"))

    await eventually(taken)

    async def told() -> bool:
        seen = await client.observe(A)
        return seen is not None and not seen.provides(wanted) and "odt-br0 is no Linux bridge" in str(seen.missing)

    await eventually(told)
    agent.run(["ip", "link", "del", "odt-br0"])
    assert (await client.ensure(wanted)).provides(wanted)
