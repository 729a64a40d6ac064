"""What somebody changes with ovs-vsctl is put back: a real agent, a real ovs-vswitchd and its database."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import pytest
from tests.support import processes
from tests.support.agent import PrivateAgent
from tests.support.heals import number_of_heals
from tests.support.kernel import requires
from tests.support.open_vswitch import BRIDGE, GuestSwitch, address, nic
from tests.support.waiting import eventually
from tests.support.wire import reaches

from onedock.nodeside.heals import Healed
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, VmId

pytestmark = [pytest.mark.root, requires("openvswitch", "8021q")]

A, B = VmId(240701), VmId(240702)
PORT = f"one-{A}-0"
SECOND_S = 1.0
CALLS = 20
"""The guest's processor is emulated: its seconds are shorter than a machine's. So a heal may take as long as so many
calls of ovs-vsctl do there, of which it makes three and more; on a machine they are a fraction of the second."""
ATTEMPTS = 3
GIVE_UP_S = 30.0


def network(vm: VmId) -> Network:
    return Network(vm, (nic(vm, tag=10, trunks=(20, 21)),))


@pytest.fixture(scope="module")
def switch(agent: PrivateAgent) -> Iterator[GuestSwitch]:
    with GuestSwitch(agent.netns) as started:
        yield started


@pytest.fixture
async def whole(agent: PrivateAgent, switch: GuestSwitch, client: AgentClient) -> AsyncIterator[AgentClient]:
    for vm in (A, B):
        await client.ensure(network(vm))
    await eventually(lambda: _listeners(agent))
    yield client
    for vm in (A, B):
        await client.remove(vm)
    await eventually(lambda: not _listeners(agent))


def _listeners(agent: PrivateAgent) -> list[int]:
    children = (pid for pid in processes.pids() if processes.parent(pid) == agent.pid)
    return [pid for pid in children if "monitor" in processes.command_line(pid)]


Damage = Callable[[GuestSwitch], object]
DAMAGES: dict[str, Damage] = {
    "tag changed": lambda switch: switch.vsctl("set", "Port", PORT, "tag=99"),
    "tag cleared": lambda switch: switch.vsctl("clear", "Port", PORT, "tag"),
    "trunks changed": lambda switch: switch.vsctl("set", "Port", PORT, "trunks=30"),
    "mode changed": lambda switch: switch.vsctl("set", "Port", PORT, "vlan_mode=trunk"),
    "marks cleared": lambda switch: switch.vsctl("clear", "Port", PORT, "external_ids"),
    "interface of another type": lambda switch: switch.vsctl("set", "Interface", PORT, "type=internal"),
    "port deleted": lambda switch: switch.vsctl("del-port", PORT),
    "port moved": lambda switch: switch.vsctl(
        "del-port", PORT, "--", "add-br", "odt-ovs9", "--", "add-port", "odt-ovs9", PORT
    ),
    "bridge deleted": lambda switch: switch.vsctl("del-br", BRIDGE),
}


async def healed_after(client: AgentClient, damage: Callable[[], object]) -> list[Healed]:
    before = await number_of_heals(client)
    damage()

    async def found() -> list[Healed] | None:
        seen = await client.observe(A)
        heals = [one for one in (await client.heals(since=before)).recent if one.vm == A]
        return heals if heals and seen is not None and seen.provides(network(A)) and not seen.missing else None

    return await eventually(found, within=GIVE_UP_S)


async def test_what_is_changed_by_hand_is_put_back_within_a_second(
    agent: PrivateAgent, switch: GuestSwitch, whole: AgentClient
) -> None:
    """By the agent's own clock, in one of three attempts: what emulates this machine may have been stopped itself."""
    for name, damage in DAMAGES.items():
        seconds: list[tuple[float, float]] = []
        while not seconds or seconds[-1][0] > seconds[-1][1]:
            assert len(seconds) < ATTEMPTS, f"{name}: seconds, and what was allowed: {seconds}"
            healed = await healed_after(whole, partial(damage, switch))
            port = switch.port(PORT)
            assert (port["tag"], port["trunks"], port["vlan_mode"]) == (10, ["set", [20, 21]], "native-untagged"), name
            seconds.append((max(one.seconds for one in healed), max(SECOND_S, CALLS * _call_s(switch))))
        switch.vsctl("--if-exists", "del-br", "odt-ovs9")
    other = await whole.observe(B)
    assert other is not None
    assert other.provides(network(B)), other.missing
    processes.wait_until(lambda: reaches(agent, f"one-{A}", address(B)), within=15, what="frames pass")


async def test_what_changed_while_the_database_was_away_is_put_back(
    agent: PrivateAgent, switch: GuestSwitch, whole: AgentClient
) -> None:
    [before] = _listeners(agent)

    def damage() -> None:
        switch.restart_database()
        switch.vsctl("set", "Port", PORT, "tag=99")

    await healed_after(whole, damage)
    assert switch.port(PORT)["tag"] == 10
    [after] = await eventually(lambda: _listeners(agent))
    assert after != before
    await healed_after(whole, lambda: switch.vsctl("set", "Port", PORT, "tag=98"))


async def test_what_the_agent_does_itself_is_no_damage(
    agent: PrivateAgent, switch: GuestSwitch, whole: AgentClient
) -> None:
    before = (await whole.heals()).counts
    for tag in (11, 12, 10):
        await whole.ensure(Network(A, (nic(A, tag=tag, trunks=(20, 21)),)))
    quiet = time.monotonic() + 1.0
    await eventually(lambda: time.monotonic() > quiet)
    assert (await whole.heals()).counts == before


async def test_the_listener_ends_with_an_agent_that_is_killed(agent: PrivateAgent, whole: AgentClient) -> None:
    [listener] = _listeners(agent)
    agent.kill()
    await eventually(lambda: not processes.alive(listener))
    agent.start()
    await eventually(lambda: _listeners(agent))
    assert (await whole.heals()).counts == {}


def _call_s(switch: GuestSwitch) -> float:
    began = time.monotonic()
    switch.vsctl("get", "Port", PORT, "tag")
    return time.monotonic() - began
