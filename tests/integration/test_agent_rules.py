"""Rules as the agent keeps them: loaded with the NIC, put back, gone with the VM; none where none are asked for."""

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.agent import PrivateAgent
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule, Spoofing

pytestmark = pytest.mark.root

VM = VmId(230_030)
INNER = f"one-{VM}"
WEB = SecurityRule(100, Direction.INBOUND, Protocol.TCP, ports=((80, 80),))
PLAIN = Nic(0, "eth0", f"one-{VM}-0", "02:00:00:03:82:0e", "odt-br0", addresses=("10.9.0.1/24",))
FILTERED = replace(PLAIN, rules=(WEB,), spoofing=Spoofing(mac=True, ip=True))


def tables(agent: PrivateAgent) -> tuple[list[str], list[str]]:
    """Names in the VM's namespace and in the agent's."""

    def names(netns: str) -> list[str]:
        listed = subprocess.run(
            ["ip", "netns", "exec", netns, "nft", "list", "tables"], check=True, capture_output=True, text=True
        )
        return listed.stdout.split("\n")[:-1]

    return names(INNER), names(agent.netns)


INSIDE = ["table inet onedock", "table netdev onedock"]
OUTSIDE = ["table netdev onedock"]


async def test_rules_come_with_the_nic_and_go_with_the_vm(agent: PrivateAgent, client: AgentClient) -> None:
    wanted = Network(VM, (FILTERED,))
    assert (await client.ensure(wanted)).provides(wanted)
    assert tables(agent) == (INSIDE, OUTSIDE)
    await client.remove(VM)
    assert _content(agent) == ""


async def test_nothing_is_there_where_nothing_is_asked_for(agent: PrivateAgent, client: AgentClient) -> None:
    await client.ensure(Network(VM, (PLAIN,)))
    assert tables(agent) == ([], [])
    await client.ensure(Network(VM, (FILTERED,)))
    await client.ensure(Network(VM, (replace(FILTERED, rules=None),)))
    assert tables(agent) == ([], OUTSIDE)
    await client.ensure(Network(VM, (PLAIN,)))
    assert tables(agent) == ([], [])


async def test_a_guard_goes_when_everything_may_leave(agent: PrivateAgent, client: AgentClient) -> None:
    await client.ensure(Network(VM, (FILTERED,)))
    opened = replace(FILTERED, rules=(WEB, SecurityRule(0, Direction.OUTBOUND, Protocol.ALL)))
    await client.ensure(Network(VM, (opened,)))
    assert tables(agent)[0] == INSIDE[:1]


def _nft(netns: Callable[[PrivateAgent], str], *command: str) -> Callable[[PrivateAgent], object]:
    return lambda agent: subprocess.run(["ip", "netns", "exec", netns(agent), "nft", *command], check=True)


def _vm(_: PrivateAgent) -> str:
    return INNER


def _node(agent: PrivateAgent) -> str:
    return agent.netns


@pytest.mark.parametrize(
    "damage",
    [
        _nft(_vm, "flush", "ruleset"),
        _nft(_vm, "delete", "table", "netdev", "onedock"),
        _nft(_vm, "insert", "rule", "inet", "onedock", "in-eth0", "accept"),
        _nft(_node, "flush", "ruleset"),
        _nft(_node, "flush", "chain", "netdev", "onedock", PLAIN.host_name),
        _nft(_node, "add", "element", "netdev", "onedock", f"{PLAIN.host_name}.net4", "{ 10.9.9.9 }"),
        _nft(_node, "add", "table", "netdev", "onedock", "{ flags dormant; }"),
        lambda agent: agent.run(["ip", "link", "del", PLAIN.host_name]),
        lambda agent: subprocess.run(["ip", "netns", "del", INNER], check=True),
    ],
)
async def test_damage_is_put_back(
    agent: PrivateAgent, client: AgentClient, damage: Callable[[PrivateAgent], object]
) -> None:
    wanted = Network(VM, (FILTERED,))
    await client.ensure(wanted)
    before = _content(agent)
    await asyncio.to_thread(damage, agent)
    await eventually(lambda: _content(agent) == before, what="rules put back")
    assert (await client.ensure(wanted)).provides(wanted)
    assert _content(agent) == before


def _content(agent: PrivateAgent) -> str:
    def listed(netns: str) -> str:
        command = ["ip", "netns", "exec", netns, "nft", "--stateless", "list", "ruleset"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout

    return listed(INNER) + listed(agent.netns)


async def test_the_next_agent_keeps_the_rules(agent: PrivateAgent) -> None:
    wanted = Network(VM, (FILTERED,))
    async with AgentClient(agent.socket) as client:
        await client.ensure(wanted)
        before = _content(agent)
    agent.kill()
    agent.start()
    async with AgentClient(agent.socket) as client:
        found = await client.ensure(wanted)
        assert found.provides(wanted)
        assert found.missing == ()
        assert _content(agent) == before
        await client.ensure(Network(VM, (PLAIN,)))
        assert tables(agent) == ([], [])
        await client.remove(VM)
