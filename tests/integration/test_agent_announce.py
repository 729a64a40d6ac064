"""Who has an address is told when it is plugged and asked before: real neighbours, real frames."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.waiting import eventually

from onedock.nodeside.agent import namespaces
from onedock.nodeside.agent.neighbours.frames import Claim, claim
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import NotFoundError, TerminalError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Spoofing

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

A, B = VmId(240310), VmId(240311)
BRIDGE = "odt-ann0"
ALL_FRAMES = 3


def nic(vm: VmId, **changes: Any) -> Nic:
    fields: dict[str, Any] = {
        "index": 0,
        "name": "eth0",
        "host_name": f"one-{vm}-0",
        "mac": f"02:00:0a:51:00:{vm % 250:02x}",
        "bridge": BRIDGE,
        "addresses": ("10.81.0.7/16", "fd81::7/64"),
        "probe": True,
    }
    return Nic(**fields | changes)


class Ear:
    """Hears what a link of the node hears."""

    def __init__(self, agent: PrivateAgent, name: str) -> None:
        def opened() -> socket.socket:
            namespaces.enter(agent.netns)
            return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)

        with ThreadPoolExecutor(1) as thread:  # which nobody uses after it stood elsewhere
            self._socket = thread.submit(opened).result()
        self._socket.bind((name, ALL_FRAMES))

    def heard(self) -> list[Claim]:
        """Everything that was said of addresses since the last call."""
        found = []
        with suppress(BlockingIOError):
            while True:
                if said := claim(self._socket.recv(2048)):
                    found.append(said)
        return found

    def hears(self, wanted: set[Claim]) -> Callable[[], bool]:
        """Whether all of that was said from now on until it is called."""
        known: set[Claim] = set()

        def all_said() -> bool:
            known.update(self.heard())
            return wanted <= known

        return all_said


@pytest.fixture
def ear(agent: PrivateAgent) -> Iterator[Ear]:
    agent.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    agent.run(["ip", "link", "set", BRIDGE, "up"])
    made = Ear(agent, BRIDGE)
    yield made
    made._socket.close()


def claims(wanted: Nic) -> set[Claim]:
    return {Claim(address.partition("/")[0], wanted.mac) for address in wanted.addresses}


async def test_addresses_are_announced_when_they_are_plugged(client: AgentClient, ear: Ear) -> None:
    mine = nic(A, probe=False)
    await client.ensure(Network(A, (mine,)))
    await eventually(ear.hears(claims(mine)))

    more = replace(mine, addresses=(*mine.addresses, "10.81.0.8/16", "fd81::8/64"))
    ear.heard()
    await client.ensure(Network(A, (more,)))
    # The kernel itself announces addresses of links that come up only.
    await eventually(ear.hears(claims(more)))

    await client.announce(A)  # takes 0.2 s: what was begun before has ended then
    ear.heard()
    await client.ensure(Network(A, (more,)))
    await client.announce(A)
    heard = ear.heard()
    counted = {one: heard.count(one) for one in claims(more)}
    assert counted == dict.fromkeys(claims(more), 3), "where nothing is new, only who asks for it is served"


async def test_what_is_healed_is_announced(agent: PrivateAgent, client: AgentClient, ear: Ear) -> None:
    mine = nic(A, probe=False)
    await client.ensure(Network(A, (mine,)))
    await client.announce(A)  # takes 0.2 s: what was begun before has ended then
    ear.heard()
    agent.run(["ip", "link", "set", mine.host_name, "nomaster"])
    await eventually(ear.hears(claims(mine)))


async def test_there_is_nothing_to_announce(client: AgentClient) -> None:
    with pytest.raises(NotFoundError, match=f"VM {A} has no network namespace"):
        await client.announce(A)


@pytest.mark.parametrize("filtered", [False, True], ids=["open", "filtered"])
@pytest.mark.parametrize("address", ["10.81.0.7/16", "fd81::7/64"])
async def test_a_taken_address_is_refused(
    agent: PrivateAgent, client: AgentClient, ear: Ear, address: str, filtered: bool
) -> None:
    wanted = nic(A, rules=(), spoofing=Spoofing(mac=True, ip=True)) if filtered else nic(A)
    owner = nic(B, addresses=(address,), probe=False)
    await client.ensure(Network(B, (owner,)))
    before = {link["ifname"] for link in agent.ip("link")}
    words = f"address {address.partition('/')[0]} of NIC 0 is taken by {owner.mac}"
    with pytest.raises(TerminalError, match=words):
        await client.ensure(Network(A, (wanted,)))
    assert await client.list_vms() == (B,)
    assert not Path(f"/run/netns/one-{A}").exists()
    assert {link["ifname"] for link in agent.ip("link")} == before
    await client.remove(B)
    assert (await client.ensure(Network(A, (wanted,)))).provides(Network(A, (wanted,)))


async def test_a_running_vm_keeps_what_it_has(client: AgentClient, ear: Ear) -> None:
    await client.ensure(Network(B, (nic(B, addresses=("10.81.0.9/16",)),)))
    mine = Network(A, (nic(A),))
    await client.ensure(mine)
    alias = nic(A, addresses=(*nic(A).addresses, "10.81.0.9/16"))
    with pytest.raises(TerminalError, match=r"address 10\.81\.0\.9 of NIC 0 is taken"):
        await client.ensure(Network(A, (alias,)))
    found = await client.observe(A)
    assert found is not None
    assert found.provides(mine)


async def test_it_is_asked_for_once(agent: PrivateAgent, client: AgentClient, ear: Ear) -> None:
    mine = Network(A, (nic(A),))
    await client.ensure(mine)
    await client.ensure(Network(B, (nic(B, probe=False),)))  # an address with two owners is nobody's fault here
    ear.heard()
    assert (await client.ensure(mine)).provides(mine)
    await asyncio.to_thread(agent.kill)
    agent.run(["ip", "link", "del", f"one-{A}-0"])
    await asyncio.to_thread(agent.start)
    found = await client.observe(A)
    assert found is not None
    assert found.provides(mine), "what a VM has is put back, whoever else has it"
