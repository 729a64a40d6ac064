"""What `onedock net` shows of rules: which one was hit how often, also after the rules or the agent were replaced."""

import socket
from functools import partial

import pytest
from tests.support import processes
from tests.support.agent import PrivateAgent
from tests.support.probing import inside
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Direction, Protocol, SecurityRule

pytestmark = pytest.mark.root

VM = VmId(230_070)
ADDRESS = "10.9.0.1"
DNS = SecurityRule(100, Direction.INBOUND, Protocol.UDP, ports=((53, 53),))
SSH = SecurityRule(100, Direction.INBOUND, Protocol.TCP, ports=((22, 22),))
NTP = SecurityRule(100, Direction.INBOUND, Protocol.UDP, ports=((123, 123),), peers=(("10.9.0.0", "10.9.0.255"),))
IN_WORDS = {DNS: "udp 53 from anybody", SSH: "tcp 22 from anybody", NTP: "udp 123 from 10.9.0.0/24"}


def _network(*rules: SecurityRule) -> Network:
    nic = Nic(0, "eth0", f"one-{VM}-0", "02:00:00:03:82:b6", "odt-br7", addresses=(f"{ADDRESS}/24",), rules=rules)
    return Network(VM, (nic,))


def _send(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.sendto(b"1234", (ADDRESS, port))


async def _count(client: AgentClient, wanted: dict[str, int]) -> None:
    """Wait until the rules that users wrote, by their words, have counted that: packets take a moment."""

    async def counted() -> bool:
        (nic,) = (await client.path(VM)).nics
        assert nic.rules is not None
        assert {hit.words: hit.packets for hit in nic.rules if hit.words} == wanted
        return True

    await eventually(counted)


async def _dropped(client: AgentClient) -> bool:
    (nic,) = (await client.path(VM)).nics
    assert nic.rules is not None
    return any(hit.rule == "in.dropped" and hit.packets for hit in nic.rules)


async def test_rules_count_on_whatever_is_replaced() -> None:
    with PrivateAgent() as agent:
        async with AgentClient(agent.socket) as client:
            await client.ensure(_network(DNS, SSH))
            agent.run(["ip", "address", "add", "10.9.0.9/24", "dev", "odt-br7"])
            for port in (53, 53, 123):
                inside(agent.netns, partial(_send, port))
            await _count(client, {IN_WORDS[DNS]: 2, IN_WORDS[SSH]: 0})
            await eventually(lambda: _dropped(client), what="what no rule describes is dropped")
            await client.ensure(_network(NTP, DNS))
            inside(agent.netns, partial(_send, 123))
            await _count(client, {IN_WORDS[DNS]: 2, IN_WORDS[NTP]: 1})
        agent.kill()
        agent.start()
        async with AgentClient(agent.socket) as client:
            await _count(client, {IN_WORDS[DNS]: 2, IN_WORDS[NTP]: 1})
            inside(agent.netns, partial(_send, 53))
            await _count(client, {IN_WORDS[DNS]: 3, IN_WORDS[NTP]: 1})
            await client.remove(VM)
        processes.wait_until(lambda: "one-" not in str(agent.ip("link")), within=10, what="the VM's links are gone")
