"""All filters of a node vanish at once, as when its administrator reloads his own. All are back at once."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.probing import inside
from tests.support.waiting import eventually

from onedock.nodeside.agent.attributes import attributes
from onedock.nodeside.agent.firewall.nfnetlink import Nftables
from onedock.nodeside.heals import Healed
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Spoofing

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

VMS = tuple(VmId(241500 + number) for number in range(40))
SECOND_S = 1.0
HEARD_S = 0.02
"""Notifications are read together, so long after the first one."""
ATTEMPTS = 3
GIVE_UP_S = 20.0
GET_GENERATION = 16
AT_ONCE_S = 1.1
"""What is undone sooner after the last time is put back with growing pauses."""


def network(vm: VmId, **changes: Any) -> Network:
    number = vm - VMS[0]
    fields: dict[str, Any] = {
        "index": 0,
        "name": "eth0",
        "host_name": f"one-{vm}-0",
        "mac": f"02:00:0a:52:00:{number:02x}",
        "bridge": f"odt-flush{number % 3}",
        "addresses": (f"10.82.0.{number + 1}/16", f"fd82::{number + 1:x}/64"),
        "spoofing": Spoofing(mac=True, ip=True),
    }
    return Network(vm, (Nic(**fields | changes),))


def shown(agent: PrivateAgent) -> list[str]:
    """Chains, sets and counters of the node, as ``nft`` shows them; their order is that of their making."""
    found = agent.run(["nft", "--stateless", "list", "ruleset"])
    inner = found.removeprefix("table netdev onedock {\n").removesuffix("}\n")
    return sorted(part.strip() for part in inner.split("\n\n"))


def flush(agent: PrivateAgent) -> None:
    agent.run(["nft", "flush", "ruleset"])


def generation(agent: PrivateAgent) -> int:
    """One more with each transaction of nftables in the node's namespace."""

    def ask() -> bytes:
        with Nftables() as kernel:
            return kernel.get(GET_GENERATION, "", {})

    return int.from_bytes(attributes(inside(agent.netns, ask))[1])


def waited_s(agent: PrivateAgent) -> float:
    """How long the agent's threads were ready to run, and had no CPU."""
    files = Path("/proc", str(agent.pid), "task").glob("*/schedstat")
    return sum(int(file.read_text().split()[1]) for file in files) / 1e9


async def back(agent: PrivateAgent, before: list[str]) -> None:
    async def same() -> bool:
        return await asyncio.to_thread(shown, agent) == before

    await eventually(same, within=GIVE_UP_S, what="the filters are as before")


async def quiet(client: AgentClient) -> int:
    """The number of heals so far, when the last one is long enough ago."""
    heals = await client.heals()
    last = max((one.time for one in heals.recent), default=0.0)
    await eventually(lambda: time.time() > last + AT_ONCE_S)
    return sum(heals.counts.values())


async def healed(client: AgentClient, since: int) -> list[Healed]:
    """Once all VMs were put back."""

    async def found() -> list[Healed] | None:
        heals = (await client.heals(since=since)).recent
        return list(heals) if {one.vm for one in heals} >= set(VMS) else None

    return await eventually(found, within=GIVE_UP_S)


async def test_filters_of_all_are_back_within_a_second(agent: PrivateAgent, client: AgentClient) -> None:
    await asyncio.gather(*(client.ensure(network(vm)) for vm in VMS))
    before = shown(agent)
    for damage in ("flush ruleset", "flush table netdev onedock"):
        seconds = [await seconds_of_heal(agent, client, damage, before)]
        while min(seconds) > SECOND_S and len(seconds) < ATTEMPTS:
            seconds.append(await seconds_of_heal(agent, client, damage, before))
        assert min(seconds) <= SECOND_S, (damage, seconds)


async def seconds_of_heal(agent: PrivateAgent, client: AgentClient, damage: str, before: list[str]) -> float:
    """Until the last one's, by the agent's own clock, without those in which others had the machine."""
    known, transactions, waited = await quiet(client), generation(agent), waited_s(agent)
    agent.run(["nft", damage])
    heals = await healed(client, known)
    waited = waited_s(agent) - waited
    assert shown(agent) == before
    assert sorted(one.vm for one in heals) == sorted(VMS), "each is counted once"
    assert generation(agent) - transactions < len(VMS) / 2, "most come back together"
    return max(one.seconds for one in heals) + HEARD_S - waited


async def test_whatever_happens_meanwhile_the_filters_are_those_that_are_wanted(
    agent: PrivateAgent, client: AgentClient
) -> None:
    some = VMS[:12]
    for vm in some:
        await client.ensure(network(vm))
    changed, removed = network(some[0], spoofing=Spoofing(mac=True)), some[1]
    meanwhile: list[Callable[[], Any]] = [
        lambda: client.ensure(changed),
        lambda: client.remove(removed),
        lambda: asyncio.to_thread(agent.ip, "link", "del", f"one-{some[2]}-0"),
        lambda: asyncio.to_thread(flush, agent),
    ]
    flush(agent)
    await asyncio.gather(*(do() for do in meanwhile))

    async def whole() -> bool:
        wanted = [changed, *map(network, some[2:])]
        found = [await client.observe(one.vm) for one in wanted]
        return all(one is not None and one.provides(want) for one, want in zip(found, wanted, strict=True))

    await eventually(whole, within=GIVE_UP_S)
    before = shown(agent)
    names = {part.split()[1] for part in before if part.startswith("chain ")}
    assert {name for name in names if "." not in name} == {f"one-{vm}-0" for vm in some if vm != removed}
    assert not any(part.startswith(f"set one-{some[0]}-0.") for part in before), "it asks for less now"

    flush(agent)
    agent.kill()
    flush(agent)
    agent.start()
    await back(agent, before)


async def test_what_others_have_under_our_name_is_replaced(agent: PrivateAgent, client: AgentClient) -> None:
    """An administrator who has saved the whole ruleset once loads the filters of that day with his own."""
    some = VMS[:6]
    for vm in some:
        await client.ensure(network(vm, spoofing=Spoofing(mac=True)))
    saved = agent.directory / "saved.nft"
    saved.write_text("flush ruleset\n" + agent.run(["nft", "list", "ruleset"]))
    for vm in some:
        await client.ensure(network(vm))
    before = shown(agent)
    agent.run(["nft", "-f", str(saved)])
    await back(agent, before)
