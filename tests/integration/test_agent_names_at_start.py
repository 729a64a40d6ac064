"""The first instruction of a container finds the name servers that its VM has now, not those of when it was made."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import images
from tests.support.agent import PrivateAgent
from tests.support.dhcp_server import DhcpServer
from tests.support.engine import PrivateEngine
from tests.support.images import Image
from tests.support.plumbing import agent_of
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import ContainerId, Network, Nic, VmId, container_name
from onedock.reconcilers.nic_parts import Method

pytestmark = [pytest.mark.root, pytest.mark.engine]

VM = VmId(280_160)
BRIDGE = "odt-na0"
GIVEN, OTHER = "10.5.0.2", "fd05::2"
SAYS = Image(cmd=("sh", "-c", "echo start; cat /etc/resolv.conf; echo end; exec sleep 86400"))
NIC = Nic(0, "eth0", f"one-{VM}-0", "02:00:0a:05:02:00", BRIDGE, addresses=("10.5.9.7/24",), dns=(GIVEN,))
ONE, TWO = Network(VM, (NIC,), ()), Network(VM, (replace(NIC, dns=(GIVEN, OTHER)),), ())


@pytest.fixture
def agent(engine: PrivateEngine) -> Iterator[PrivateAgent]:
    with agent_of(engine, BRIDGE) as running:
        yield running


@pytest.fixture
async def client(agent: PrivateAgent) -> AsyncIterator[AgentClient]:
    async with AgentClient(agent.socket) as connected:
        yield connected
        await connected.remove(VM)


@pytest.fixture
async def container(engine: PrivateEngine, client: AgentClient) -> AsyncIterator[ContainerId]:
    """Made with the name servers of ``ONE``, bound, and not started yet."""
    await client.ensure(ONE)
    host = {"NetworkMode": "none", "Runtime": "onedock", "Dns": [GIVEN]}
    body = {"Image": images.load(engine, SAYS, tag="onedock-test:says-names"), "HostConfig": host}
    made = ContainerId(engine.api("POST", f"/containers/create?name={container_name(VM)}", body)["Id"])
    await client.bind(VM, made)
    yield made
    engine.api("DELETE", f"/containers/{made}?force=1&v=1")


async def first_words(engine: PrivateEngine, container: ContainerId) -> str:
    """What the latest start has found."""

    def words() -> str:
        logged = str(engine.api("GET", f"/containers/{container}/logs?stdout=1"))
        return logged.rpartition("start")[2] if "end" in logged.rpartition("start")[2] else ""

    return str(await eventually(words, what="it has spoken"))


async def start(engine: PrivateEngine, container: ContainerId) -> None:
    await asyncio.to_thread(engine.api, "POST", f"/containers/{container}/restart?t=0")


async def test_a_start_waits_for_the_agent_where_they_differ(
    engine: PrivateEngine, agent: PrivateAgent, client: AgentClient, container: ContainerId
) -> None:
    async def is_waited_for() -> bool:
        """Whether a start waits for an agent that gets around to nothing."""
        os.kill(agent.pid, signal.SIGSTOP)
        started = asyncio.create_task(start(engine, container))
        try:
            done, _ = await asyncio.wait({started}, timeout=1.0)
        finally:
            os.kill(agent.pid, signal.SIGCONT)
        await started
        return not done

    for wanted in (TWO, ONE, TWO):
        await client.ensure(wanted)
        waited = await is_waited_for()
        assert (OTHER in await first_words(engine, container)) is (wanted is TWO)
        assert waited or wanted is ONE


async def test_nobody_is_asked_where_the_engine_gives_them(
    engine: PrivateEngine, agent: PrivateAgent, client: AgentClient, container: ContainerId
) -> None:
    def asking() -> list[Path]:
        return [one for one in engine.runtime_dir.iterdir() if one.is_symlink()]

    assert asking() == []
    await client.ensure(TWO)
    assert [one.readlink() for one in asking()] == [agent.socket]
    agent.kill()
    await start(engine, container)
    assert OTHER not in await first_words(engine, container), "who is down keeps nothing from starting"
    agent.start()
    await client.ensure(ONE)
    assert asking() == []
    await client.ensure(TWO)
    agent.kill()
    agent.start()
    await client.remove(VM)
    assert list(engine.runtime_dir.iterdir()) == []


async def test_those_of_a_lease_are_there_at_the_first_start(
    engine: PrivateEngine, agent: PrivateAgent, client: AgentClient, container: ContainerId, tmp_path: Path
) -> None:
    by_dhcp = replace(NIC, addresses=(), method=Method.DHCP)
    with DhcpServer(tmp_path / "dhcp", netns=agent.netns, link=BRIDGE):
        await client.ensure(Network(VM, (by_dhcp,), ()))

        def leased() -> bool:
            [shown] = agent.ip("-4", "address", "show", "dev", "eth0", netns=f"one-{VM}") or [{}]
            return bool(shown.get("addr_info"))

        await eventually(leased, what="a lease")
        await start(engine, container)
        assert "nameserver 10.5.0.53" in await first_words(engine, container)
        await client.ensure(ONE)
