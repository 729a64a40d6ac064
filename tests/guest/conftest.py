"""One agent for all tests of a guest: to start it takes as long there as most of them."""

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.support.agent import PrivateAgent
from tests.support.plumbing import connected
from tests.support.wire import wired

from onedock.nodeside.remote import AgentClient


@pytest.fixture(scope="session")
def agent() -> Iterator[PrivateAgent]:
    with PrivateAgent() as running:
        yield running


@pytest.fixture
async def client(agent: PrivateAgent) -> AsyncIterator[AgentClient]:
    """A client of the agent, after which no VM and no link is left that was not there before."""
    before = _links(agent)
    async with connected(agent) as one:
        yield one
    assert _links(agent) == before


@pytest.fixture
def wire(agent: PrivateAgent) -> Iterator[str]:
    with wired(agent) as namespace:
        yield namespace


def _links(agent: PrivateAgent) -> set[str]:
    return {link["ifname"] for link in agent.ip("link")} - {"ovs-system"}
