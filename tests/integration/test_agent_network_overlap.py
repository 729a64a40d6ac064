"""NICs of one VM in one subnet, or in overlapping ones, with filters against forging on all of them."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.by_source import rules, sent, tables
from tests.support.plumbing import NEEDS_ROOT, nic, ping
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Spoofing

pytestmark = NEEDS_ROOT

A, B = VmId(228_000), VmId(228_001)
BOTH = Spoofing(mac=True, ip=True)
_ANSWER = """
import socket, sys
with socket.create_server((sys.argv[1], 7), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as server:
    print("ready", flush=True)
    connection, peer = server.accept()
    with connection:
        connection.sendall(b"hello")
"""


def filtered(vm: VmId, index: int, *addresses: str, **changes: Any) -> Nic:
    return nic(vm, index, addresses=addresses, spoofing=BOTH, **changes)


WANTED = Network(
    A,
    (
        filtered(A, 0, "10.77.0.10/24", "2001:db8::a/64", gateways=("10.77.0.1", "2001:db8::1")),
        filtered(A, 1, "10.77.0.20/24", "10.77.0.21/24", "2001:db8::14/64", gateways=("10.77.0.1", "2001:db8::1")),
        filtered(A, 2, "10.77.128.30/16"),
    ),
)
ADDRESSES = {address.partition("/")[0]: one.name for one in WANTED.nics for address in one.addresses}
NEIGHBOUR = Network(B, (nic(B, addresses=("10.77.0.99/16", "10.99.0.1/24", "2001:db8::99/64", "fd99::1/64")),))


def answers_tcp(agent: PrivateAgent, address: str) -> bool:
    server = [f"--net=/run/netns/one-{A}", sys.executable, "-c", _ANSWER, address]
    with subprocess.Popen(["nsenter", *server], stdout=subprocess.PIPE, text=True) as answering:
        assert answering.stdout is not None
        assert answering.stdout.readline() == "ready\n"
        try:
            said = agent.run(["busybox", "nc", "-w", "3", address, "7"], netns=f"one-{B}")
        except subprocess.CalledProcessError:
            return False
        finally:
            answering.terminate()
    return said == "hello"


async def test_each_address_answers_by_its_own_nic(agent: PrivateAgent, client: AgentClient) -> None:
    assert (await client.ensure(WANTED)).provides(WANTED)
    await client.ensure(NEIGHBOUR)
    for address, link in ADDRESSES.items():
        await eventually(partial(ping, agent, B, address), what=f"{address} answers")
        before = sent(agent, A, link)
        assert ping(agent, B, address)
        assert answers_tcp(agent, address)
        # Others may say something of their own meanwhile, but an answer by them would not pass their filters.
        assert sent(agent, A, link) - before >= 4, address
        assert ping(agent, A, "10.77.0.99" if ":" not in address else "2001:db8::99", source=address)


async def test_a_host_behind_the_gateway_gets_its_answer_from_the_same_nic(
    agent: PrivateAgent, client: AgentClient
) -> None:
    gateways = ("10.77.0.99", "2001:db8::99")
    wanted = Network(A, tuple(replace(one, gateways=gateways) for one in WANTED.nics[:2]))
    await client.ensure(NEIGHBOUR)
    assert (await client.ensure(wanted)).provides(wanted)
    for address in ("10.77.0.10", "10.77.0.20"):
        assert ping(agent, A, "10.99.0.1", source=address)
    for address in ("2001:db8::a", "2001:db8::14"):
        await eventually(partial(ping, agent, A, "fd99::1", source=address), what=f"{address} answers")


def _in_vm(*argv: str) -> Callable[[PrivateAgent], object]:
    return lambda agent: agent.run(["ip", *argv], netns=f"one-{A}")


@pytest.mark.parametrize(
    "damage",
    [
        _in_vm("rule", "del", "from", "10.77.0.20"),
        _in_vm("-6", "rule", "flush"),
        _in_vm("rule", "add", "from", "10.77.0.20", "priority", "1000", "lookup", "1000"),
        _in_vm("route", "flush", "table", "1001"),
        _in_vm("-6", "route", "del", "2001:db8::/64", "table", "1001"),
        _in_vm("route", "add", "10.99.0.0/24", "via", "10.77.0.3", "table", "1001", "proto", "static"),
        _in_vm("link", "set", "eth1", "down"),
        _in_vm("addr", "flush", "dev", "eth1"),
        _in_vm("link", "del", "eth1"),
    ],
)
async def test_damage_is_healed_without_being_asked(
    agent: PrivateAgent, client: AgentClient, damage: Callable[[PrivateAgent], object]
) -> None:
    await client.ensure(WANTED)
    before = rules(agent, A), tables(agent, A)
    assert ("10.77.0.20", "1001") in before[0]
    with suppress(subprocess.CalledProcessError):  # healed before the second half of the damage
        damage(agent)
    await eventually(lambda: "network healed" in agent.log.read_text(), what="the damage is noticed")
    await eventually(lambda: (rules(agent, A), tables(agent, A)) == before, what="all is as before")


async def test_what_is_not_shared_any_more_needs_no_rules(agent: PrivateAgent, client: AgentClient) -> None:
    await client.ensure(WANTED)
    assert rules(agent, A)
    apart = Network(A, (WANTED.nics[0], filtered(A, 1, "10.78.0.20/24"), filtered(A, 2, "10.79.0.20/24")))
    assert (await client.ensure(apart)).provides(apart)
    assert (rules(agent, A), tables(agent, A)) == ([], [])
    await client.ensure(WANTED)
    alone = Network(A, WANTED.nics[1:2])
    assert (await client.ensure(alone)).provides(alone)
    assert (rules(agent, A), tables(agent, A)) == ([], [])
