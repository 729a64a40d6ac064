"""Agents and clouds for the tests of a file, one test after the other."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from tests.support.agent import PrivateAgent
from tests.support.engine import PrivateEngine
from tests.support.kept import KeptAgents
from tests.support.kept_cloud import KeptCloud
from tests.support.plumbing import connected
from tests.support.registry import PrivateRegistry

from onedock.nodeside.remote import AgentClient


@pytest.fixture(scope="module")
def kept_agents(nothing_leaks: None) -> Iterator[KeptAgents]:
    with KeptAgents() as kept:
        yield kept


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept_cloud(engine: PrivateEngine, registry: PrivateRegistry) -> AsyncIterator[KeptCloud]:
    async with KeptCloud(engine, registry) as kept:
        yield kept


@pytest.fixture
def agent(kept_agents: KeptAgents) -> Iterator[PrivateAgent]:
    """An agent that knows no VM, in a namespace of its own; after the test nothing of VMs is left there."""
    with kept_agents.lent() as running:
        yield running


@pytest.fixture
async def client(agent: PrivateAgent) -> AsyncIterator[AgentClient]:
    """A client of the agent, after which all VMs that it knows are removed."""
    async with connected(agent) as found:
        yield found
