"""NICs of one VM that share a subnet by what a DHCP server or a router gives them, and methods that change."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.by_source import rules, sent, tables
from tests.support.dhcp_server import DhcpServer
from tests.support.plumbing import NEEDS_ROOT, bare_node, connected, ping
from tests.support.router import advertise
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Method, Spoofing

pytestmark = NEEDS_ROOT

VM = VmId(250_302)
BRIDGE = "odt-ga0"
PREFIX = "2001:db8:5::"


def nic(index: int = 0, **changes: Any) -> Nic:
    made = Nic(
        index=index,
        name=f"eth{index}",
        host_name=f"one-{VM}-{index}",
        mac=f"02:00:0a:05:03:{index:02x}",
        bridge=BRIDGE,
        spoofing=Spoofing(mac=True, ip=True),
    )
    return replace(made, **changes)


def by_dhcp(index: int = 0, **changes: Any) -> Nic:
    return nic(index, method=Method.DHCP, **changes)


def by_router(index: int = 0, **changes: Any) -> Nic:
    return nic(index, method6=Method.AUTO, **changes)


@pytest.fixture
def agent() -> Iterator[PrivateAgent]:
    with bare_node() as running:
        running.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        running.run(["ip", "address", "add", "10.5.0.1/24", "dev", BRIDGE])
        running.run(["ip", "address", "add", f"{PREFIX}1/64", "dev", BRIDGE, "nodad"])
        running.run(["ip", "link", "set", BRIDGE, "up"])
        # Who advertises itself and does not forward is taken for a router that has given up.
        running.run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])
        # Far away behind the bridge's own addresses.
        running.run(["ip", "address", "add", "10.99.0.1/32", "dev", "lo"])
        running.run(["ip", "address", "add", "fd99::1/128", "dev", "lo"])
        yield running


@pytest.fixture
async def client(agent: PrivateAgent) -> AsyncIterator[AgentClient]:
    async with connected(agent) as found:
        yield found


def addresses(agent: PrivateAgent, index: int = 0, *, family: int = 4) -> list[str]:
    shown = agent.ip(f"-{family}", "addr", "show", "scope", "global", netns=f"one-{VM}")
    return [one["local"] for part in shown if part.get("ifname") == f"eth{index}" for one in part["addr_info"] if one]


def answers(agent: PrivateAgent, target: str) -> bool:
    """Whether it answers the node's own namespace."""
    return "1 packets received" in agent.run(["sh", "-c", f"busybox ping -c 1 -W 1 {target} || true"])


async def check_each_answers_by_itself(agent: PrivateAgent, found: dict[int, str], far: str) -> None:
    for index, address in found.items():
        await eventually(partial(answers, agent, address), what=f"{address} answers")
        before = sent(agent, VM, f"eth{index}")
        for _ in range(3):
            assert answers(agent, address), "an answer by another NIC does not pass that one's filter"
        assert sent(agent, VM, f"eth{index}") - before >= 3
        await eventually(partial(ping, agent, VM, far, source=address), what=f"{far} answers {address}")


async def leased(agent: PrivateAgent, *indices: int) -> dict[int, str]:
    await eventually(lambda: all(addresses(agent, index) for index in indices), within=15, what="all have leases")
    return {index: addresses(agent, index)[0] for index in indices}


async def test_each_leased_address_answers_by_its_own_nic(
    agent: PrivateAgent, client: AgentClient, tmp_path: Path
) -> None:
    wanted = Network(VM, (by_dhcp(), by_dhcp(1), nic(2, addresses=("10.5.0.77/24",))))
    with DhcpServer(tmp_path / "dhcp", netns=agent.netns, link=BRIDGE):
        await client.ensure(wanted)
        found = await leased(agent, 0, 1)
        await check_each_answers_by_itself(agent, found, "10.99.0.1")
        assert answers(agent, "10.5.0.77")
        assert rules(agent, VM) == sorted([(found[0], "1000"), (found[1], "1001"), ("10.5.0.77", "1002")])
        assert tables(agent, VM) == [
            "1000 10.5.0.0/24  eth0", "1000 default 10.5.0.1 eth0",
            "1001 10.5.0.0/24  eth1", "1001 default 10.5.0.1 eth1",
            "1002 10.5.0.0/24  eth2",
        ]  # fmt: skip
        assert (seen := await client.observe(VM)) is not None
        assert seen.provides(wanted)

        agent.run(["ip", "rule", "del", "from", found[1]], netns=f"one-{VM}")
        await eventually(lambda: (found[1], "1001") in rules(agent, VM), what="what is broken is put back")

        await client.ensure(Network(VM, wanted.nics[:1]))
        assert (rules(agent, VM), tables(agent, VM)) == ([], [])


async def test_what_a_lease_gave_goes_with_it(agent: PrivateAgent, client: AgentClient, tmp_path: Path) -> None:
    with DhcpServer(tmp_path / "dhcp", netns=agent.netns, link=BRIDGE, seconds=6, more="min_lease 5"):
        await client.ensure(Network(VM, (by_dhcp(), nic(1, addresses=("10.5.0.77/24",)))))
        found = await leased(agent, 0)
        both = sorted([(found[0], "1000"), ("10.5.0.77", "1001")])
        await eventually(lambda: rules(agent, VM) == both, what="it is routed by its source")
    await eventually(lambda: (rules(agent, VM), tables(agent, VM)) == ([], []), within=20, what="the lease's end")
    assert addresses(agent) == []


async def test_gateways_that_cannot_be_do_not_cost_the_address(
    agent: PrivateAgent, client: AgentClient, tmp_path: Path
) -> None:
    nonsense = ("10.5.0.20", "10.5.0.255", "10.5.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1")
    routes = " ".join(f"10.{60 + number}.0.0/16 {gateway}" for number, gateway in enumerate(nonsense))
    more = f"option staticroutes {routes}, 10.70.0.0/16 10.5.0.1".replace(", ", " ")
    with DhcpServer(tmp_path / "dhcp", netns=agent.netns, link=BRIDGE, last="10.5.0.20", more=more):
        wanted = Network(VM, (by_dhcp(), nic(1, addresses=("10.5.0.77/24",))))
        await client.ensure(wanted)
        assert await leased(agent, 0) == {0: "10.5.0.20"}
        way = "1000 10.70.0.0/16 10.5.0.1 eth0"
        await eventually(lambda: way in tables(agent, VM), what="the route that can be is there")
        assert (seen := await client.observe(VM)) is not None
        assert seen.provides(wanted)
        assert answers(agent, "10.5.0.20")


async def test_each_advertised_address_answers_by_its_own_nic(agent: PrivateAgent, client: AgentClient) -> None:
    wanted = Network(VM, (by_router(), by_router(1), nic(2, addresses=(f"{PREFIX}77/64",))))

    def given() -> dict[int, str]:
        return {index: found[0] for index in (0, 1) if (found := addresses(agent, index, family=6))}

    def all_rules() -> bool:
        return rules(agent, VM) == sorted([*((one, f"{1000 + index}") for index, one in given().items()),
                                       (f"{PREFIX}77", "1002")])  # fmt: skip

    def heard() -> bool:
        advertise(agent, BRIDGE, PREFIX)
        return len(given()) == 2

    await client.ensure(wanted)
    healed = (await client.heals()).counts
    await eventually(heard, what="both have an address by the router")
    await eventually(all_rules, what="both are routed by their sources")
    assert (await client.heals()).counts == healed, "nobody broke anything"
    await check_each_answers_by_itself(agent, given(), "fd99::1")
    assert (seen := await client.observe(VM)) is not None
    assert seen.provides(wanted)

    advertise(agent, BRIDGE, PREFIX, lifetime=0)
    await eventually(
        lambda: not [one for one in tables(agent, VM) if "default" in one], what="no router, no route to it"
    )
    agent.run(["ip", "-6", "address", "flush", "dev", "eth1", "scope", "global"], netns=f"one-{VM}")
    await eventually(all_rules, what="the rule of the address that went has gone")
    await client.ensure(Network(VM, (replace(wanted.nics[0], method6=Method.STATIC), wanted.nics[2])))
    await eventually(
        lambda: (rules(agent, VM), tables(agent, VM)) == ([], []), what="static, without what a router gave"
    )
    assert addresses(agent, 0, family=6) == []
    await client.ensure(Network(VM, (by_router(),)))

    def heard_again() -> list[str]:
        advertise(agent, BRIDGE, PREFIX)
        return addresses(agent, 0, family=6)

    await eventually(heard_again, what="an address by the router again")
    await client.ensure(Network(VM, (nic(method6=Method.SKIP),)))
    advertise(agent, BRIDGE, PREFIX)
    assert (addresses(agent, 0, family=6), agent.ip("-6", "route", "show", "default", netns=f"one-{VM}")) == ([], [])


async def test_methods_change_while_the_vm_runs(agent: PrivateAgent, client: AgentClient, tmp_path: Path) -> None:
    fixed = nic(addresses=("10.5.0.99/24",), gateways=("10.5.0.1",))
    with DhcpServer(tmp_path / "dhcp", netns=agent.netns, link=BRIDGE) as server:

        async def becomes(wanted: Nic) -> None:
            assert (await client.ensure(Network(VM, (wanted,)))).missing == ()

        def default_routes() -> list[tuple[str, str]]:
            shown = agent.ip("route", "show", "default", netns=f"one-{VM}")
            return [(one["gateway"], one["protocol"]) for one in shown]

        await becomes(fixed)
        assert (addresses(agent), default_routes()) == (["10.5.0.99"], [("10.5.0.1", "static")])
        for _ in range(2):
            await becomes(by_dhcp())
            found = await leased(agent, 0)
            assert addresses(agent) == [found[0]]
            await eventually(lambda: default_routes() == [("10.5.0.1", "dhcp")], what="the lease's route")
            assert found[0] != "10.5.0.99"
            assert answers(agent, found[0])
            await eventually(lambda: list(server.leases()) == addresses(agent), what="the server knows it")

            await becomes(fixed)
            assert (addresses(agent), default_routes()) == (["10.5.0.99"], [("10.5.0.1", "static")])
            assert answers(agent, "10.5.0.99")
            await eventually(lambda: server.leases() == {}, what="the lease is given back")

        await becomes(nic(method=Method.SKIP))
        assert (addresses(agent), default_routes()) == ([], [])
        agent.run(["ip", "address", "add", "10.5.0.66/24", "dev", "eth0"], netns=f"one-{VM}")
        await becomes(nic(method=Method.SKIP))
        assert addresses(agent) == ["10.5.0.66"], "what the guest does itself is its own"

        await becomes(by_dhcp())
        found = await leased(agent, 0)
        assert addresses(agent) == [found[0]]
        await becomes(nic(method=Method.SKIP))
        assert addresses(agent) == []
        await eventually(lambda: server.leases() == {}, what="the lease is given back")
        await becomes(fixed)
        assert (addresses(agent), default_routes()) == (["10.5.0.99"], [("10.5.0.1", "static")])
