"""Agents for all tests of a guest: to start one takes as long there as most of them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from tests.support.agent import PrivateAgent
from tests.support.plumbing import connected
from tests.support.wire import links, wired

from onedock.nodeside.remote import AgentClient


@pytest.fixture(scope="session")
def agent() -> Iterator[PrivateAgent]:
    with PrivateAgent() as running:
        yield running


@pytest.fixture(scope="session")
def other_agent() -> Iterator[PrivateAgent]:
    """Another node."""
    with PrivateAgent() as running:
        yield running


@pytest.fixture
async def client(agent: PrivateAgent) -> AsyncIterator[AgentClient]:
    """A client of the agent, after which no VM and no link is left that was not there before."""
    async with _tidy(agent) as one:
        yield one


@pytest.fixture
async def other_client(other_agent: PrivateAgent) -> AsyncIterator[AgentClient]:
    """The same of the other node."""
    async with _tidy(other_agent) as one:
        yield one


@pytest.fixture
def wire(agent: PrivateAgent) -> Iterator[str]:
    with wired(agent) as namespace:
        yield namespace


@asynccontextmanager
async def _tidy(agent: PrivateAgent) -> AsyncIterator[AgentClient]:
    before = links(agent)
    async with connected(agent) as one:
        yield one
    assert links(agent) == before
