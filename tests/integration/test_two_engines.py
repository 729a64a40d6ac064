"""Two nodes, each with an engine and an agent: containers on both reach what their networks say, and nothing else."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.support import engine as engines
from tests.support import images
from tests.support.agent import PrivateAgent
from tests.support.engine import PrivateEngine
from tests.support.oracle import Placed
from tests.support.reachability import compare
from tests.support.topology import TwoNodes, crowd

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import ContainerId, container_name, namespace_name

pytestmark = [
    pytest.mark.root,
    pytest.mark.engine,
    pytest.mark.skipif(engines.why_not() is not None, reason=str(engines.why_not())),
]


@pytest.fixture
def pair(engine: PrivateEngine) -> Iterator[tuple[PrivateEngine, PrivateEngine]]:
    with PrivateEngine() as other:
        yield engine, other


async def test_containers_on_two_engines(pair: tuple[PrivateEngine, PrivateEngine]) -> None:
    """Six VMs on bridges and tunnels, with a router, groups, filters, limits and overlapping subnets."""
    world = crowd()
    first, second = (PrivateAgent(netns=engine.netns, runtime_dir=engine.runtime_dir) for engine in pair)
    with TwoNodes((first, second)) as nodes:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(nodes.clear)
            await nodes.make(world)
            for placed in world.vms:
                engine = pair[placed.node]
                container = create(engine, placed)
                stack.callback(engine.api, "DELETE", f"/containers/{container}?force=1")
                async with AgentClient(nodes.agents[placed.node].socket) as agent:
                    await agent.bind(placed.vm, container)
                engine.api("POST", f"/containers/{container}/start")
                assert addresses_in(engine, placed) >= {a for nic in placed.network.nics for a in nic.addresses}
            await nodes.forward(world)
            await asyncio.to_thread(compare, world)


def create(engine: PrivateEngine, placed: Placed) -> ContainerId:
    host = {"NetworkMode": "none", "Runtime": "onedock"}
    body = {"Image": images.load(engine), "HostConfig": host}
    made = engine.api("POST", f"/containers/create?name={container_name(placed.vm)}", body)
    return ContainerId(made["Id"])


def addresses_in(engine: PrivateEngine, placed: Placed) -> set[str]:
    """CIDR strings as the container's own process sees them."""
    pid = engine.api("GET", f"/containers/{container_name(placed.vm)}/json")["State"]["Pid"]
    assert Path(f"/proc/{pid}/ns/net").stat().st_ino == Path("/run/netns", namespace_name(placed.vm)).stat().st_ino
    shown = subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "-o", "address"], capture_output=True, check=True)
    return set(re.findall(r"inet6? (\S+)", shown.stdout.decode()))
