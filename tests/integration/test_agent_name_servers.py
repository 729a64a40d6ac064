"""Name servers that come and go while a container runs: a real engine, a real agent, a real DHCP server."""

import asyncio
import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import images
from tests.support.agent import PrivateAgent
from tests.support.dhcp_server import DhcpServer
from tests.support.engine import PrivateEngine
from tests.support.plumbing import agent_of
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import ContainerId, Network, Nic, VmId, container_name
from onedock.reconcilers.nic_parts import Method

pytestmark = [pytest.mark.root, pytest.mark.engine]

VM = VmId(250_301)
BRIDGE = "odt-ns0"
FIRST, SECOND, LAST = "10.5.0.2", "fd05::2", "9.9.9.9"


def nic(index: int = 0, **changes: Any) -> Nic:
    made = Nic(
        index=index,
        name=f"eth{index}",
        host_name=f"one-{VM}-{index}",
        mac=f"02:00:0a:05:01:{index:02x}",
        bridge=BRIDGE,
        addresses=(f"10.5.{index + 1}.7/24",),
    )
    return replace(made, **changes)


def network(*nics: Nic) -> Network:
    return Network(VM, nics, (LAST,))


PLAIN = nic(dns=(FIRST,), search=("one.example",))
WITH_TWO = network(PLAIN, nic(1, dns=(SECOND, FIRST), search=("two.example",)))
BY_DHCP = nic(1, method=Method.DHCP, addresses=())


@pytest.fixture
def agent(engine: PrivateEngine) -> Iterator[PrivateAgent]:
    with agent_of(engine, BRIDGE) as running:
        yield running


@pytest.fixture
async def client(agent: PrivateAgent, engine: PrivateEngine) -> AsyncIterator[AgentClient]:
    async with AgentClient(agent.socket) as connected:
        yield connected
        for container in engine.api("GET", "/containers/json?all=1"):
            engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        await connected.remove(VM)


async def start(engine: PrivateEngine, client: AgentClient, wanted: Network, **host: Any) -> ContainerId:
    """A container as the controller makes it: with the names that its NICs have by then."""
    await client.ensure(wanted)
    given = {"Dns": [FIRST, LAST], "DnsSearch": ["one.example"], **host}
    body = {
        "Image": images.load(engine),
        "HostConfig": {"NetworkMode": "none", "Runtime": "onedock", **given},
    }
    container = ContainerId(engine.api("POST", f"/containers/create?name={container_name(VM)}", body)["Id"])
    await client.bind(VM, container)
    engine.api("POST", f"/containers/{container}/start")
    return container


def run_in(engine: PrivateEngine, container: str, *argv: str) -> str:
    body = {"Cmd": ["/bin/busybox", *argv], "AttachStdout": True, "Tty": True}
    execution = engine.api("POST", f"/containers/{container}/exec", body)["Id"]
    output = engine.api("POST", f"/exec/{execution}/start", {"Tty": True})
    return (output or "").replace("\r", "")


def inside(engine: PrivateEngine, container: str) -> list[str]:
    """What a resolver in the container reads, the domains first, which later engines write after the servers."""
    lines = run_in(engine, container, "cat", "/etc/resolv.conf").splitlines()
    return sorted((line for line in lines if line and line[0] != "#"), key=lambda line: not line.startswith("search"))


def file_of(engine: PrivateEngine, container: str) -> Path:
    return engine.data_root / "containers" / container / "resolv.conf"


AT_FIRST = ["search one.example", f"nameserver {FIRST}", f"nameserver {LAST}"]


async def test_a_nic_brings_its_names_and_takes_them_away(
    engine: PrivateEngine, agent: PrivateAgent, client: AgentClient
) -> None:
    container = await start(engine, client, network(PLAIN), DnsOptions=["ndots:2"])
    before = run_in(engine, container, "cat", "/etc/resolv.conf")
    assert inside(engine, container) == [*AT_FIRST, "options ndots:2"]

    await client.ensure(WITH_TWO)
    assert inside(engine, container) == [
        "search one.example two.example",
        *(f"nameserver {server}" for server in (FIRST, SECOND, LAST)),
        "options ndots:2",
    ]
    path = await client.path(VM)
    assert [one.dns for one in path.nics] == [(FIRST,), (SECOND, FIRST)]
    assert path.resolver is not None
    assert (path.resolver.servers, path.resolver.trouble) == ((FIRST, SECOND, LAST), "")

    await client.ensure(network(replace(PLAIN, dns=("10.5.0.3",), search=())))
    assert inside(engine, container) == ["nameserver 10.5.0.3", f"nameserver {LAST}", "options ndots:2"]
    await client.ensure(network(PLAIN))
    assert run_in(engine, container, "cat", "/etc/resolv.conf") == before, "as the engine wrote it, to the byte"


async def test_a_restart_keeps_them(engine: PrivateEngine, agent: PrivateAgent, client: AgentClient) -> None:
    container = await start(engine, client, network(PLAIN))
    await client.ensure(WITH_TWO)
    wanted = inside(engine, container)
    assert f"nameserver {SECOND}" in wanted
    for _ in range(3):
        engine.api("POST", f"/containers/{container}/restart?t=0")
        await eventually(lambda: inside(engine, container) == wanted, what="they are there again")
    agent.stop()
    engine.api("POST", f"/containers/{container}/restart?t=0")
    assert inside(engine, container) == AT_FIRST
    agent.start()
    await eventually(lambda: inside(engine, container) == wanted, what="the agent finds it at its start")


async def test_those_of_a_lease(
    engine: PrivateEngine, agent: PrivateAgent, client: AgentClient, tmp_path: Path
) -> None:
    server = DhcpServer(tmp_path / "dhcp", netns=agent.netns, link=BRIDGE, seconds=6, more="min_lease 5")
    with server:
        container = await start(engine, client, network(PLAIN))
        await client.ensure(network(PLAIN, BY_DHCP))
        leased = [
            "search one.example test.example.org",
            *(f"nameserver {server}" for server in (FIRST, "10.5.0.53", LAST)),
        ]
        await eventually(lambda: inside(engine, container) == leased, what="the lease's are there")
        assert (await client.path(VM)).nics[1].dns == ("10.5.0.53",)
        await client.ensure(network(PLAIN))
        assert inside(engine, container) == AT_FIRST, "given back with the lease"
        await client.ensure(network(PLAIN, BY_DHCP))
        await eventually(lambda: inside(engine, container) == leased, what="the lease's are there again")
    await eventually(lambda: inside(engine, container) == AT_FIRST, within=20, what="gone with the lease's end")


async def test_who_changes_the_file_keeps_it_until_the_restart(
    engine: PrivateEngine, agent: PrivateAgent, client: AgentClient
) -> None:
    container = await start(engine, client, network(PLAIN))
    for already in (network(PLAIN), WITH_TWO):
        await client.ensure(already)
        run_in(engine, container, "sh", "-c", "echo options rotate >> /etc/resolv.conf")
        changed = run_in(engine, container, "cat", "/etc/resolv.conf")
        await client.ensure(network(replace(PLAIN, dns=("10.5.0.4",))))
        assert run_in(engine, container, "cat", "/etc/resolv.conf") == changed
        assert (found := (await client.path(VM)).resolver) is not None
        assert "changed in the container" in found.trouble
        engine.api("POST", f"/containers/{container}/restart?t=0")
        await eventually(lambda: "nameserver 10.5.0.4" in inside(engine, container), what="ours again")


async def test_who_holds_the_file_does_not_hold_the_agent(
    engine: PrivateEngine, agent: PrivateAgent, client: AgentClient
) -> None:
    """A lease (fcntl) that the container takes on its file lets others wait who open it."""
    container = await start(engine, client, network(PLAIN))
    file = file_of(engine, container)
    with file.open("r+b") as held:
        fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGURG)  # ignored by default
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        await client.ensure(WITH_TWO)
        assert (await client.observe(VM)) is not None
    await client.ensure(WITH_TWO)
    assert f"nameserver {SECOND}" in inside(engine, container)


async def test_what_nobody_asked_for_is_left_to_the_engine(
    engine: PrivateEngine, agent: PrivateAgent, client: AgentClient
) -> None:
    """A controller of an earlier release says nothing of name servers."""
    container = await start(engine, client, Network(VM, (nic(),)))
    assert inside(engine, container) == AT_FIRST
    assert (await client.path(VM)).resolver is None
    container_of_node = json.loads((file_of(engine, container).parent / "hostconfig.json").read_text())
    assert container_of_node["Dns"] == [FIRST, LAST]


_SERVE = """
import asyncio, sys
from pathlib import Path
from onedock.nodeside.agent.resolver.serving import NameServing
from onedock.reconcilers.resolver import Names

async def serve():
    serving = NameServing(Path(sys.argv[1]), Path(sys.argv[1]), Path("/none"))
    serving.serve(7, [sys.argv[2]], Names(("10.5.0.9",)))
    print(serving.state(7))
    serving.close()

asyncio.run(serve())
"""


async def test_a_node_whose_watches_are_all_taken_still_writes(
    engine: PrivateEngine, agent: PrivateAgent, client: AgentClient
) -> None:
    container = await start(engine, client, Network(VM, (nic(),)))
    none_left = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    command = [sys.executable, "-c", _SERVE, str(engine.data_root), container]
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", none_left, "sh", *command]
    said = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=True, timeout=30)
    assert "it will not follow the container's next start: [Errno 24] inotify" in said.stdout
    assert inside(engine, container) == ["nameserver 10.5.0.9"]
