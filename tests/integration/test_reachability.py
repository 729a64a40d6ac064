"""Two nodes, random VMs on them: what is reached is what the networks say, no more and no less."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.support.oracle import World
from tests.support.reachability import compare
from tests.support.topology import TwoNodes, worlds

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

DETERMINED = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""The same examples in every run."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with TwoNodes() as both:
        yield both


async def check(nodes: TwoNodes, world: World) -> None:
    """Make it, measure it, remove it."""
    try:
        made = await nodes.make(world)
        for observed, placed in zip(made, world.vms, strict=True):
            assert observed.provides(placed.network)
        await asyncio.to_thread(compare, world)
    except BaseException as error:
        error.add_note(nodes.logs())
        raise
    finally:
        await nodes.clear()


@DETERMINED
@given(world=worlds(kinds=["local", "bridge"], rules=False))
def test_over_bridges(nodes: TwoNodes, world: World) -> None:
    asyncio.run(check(nodes, world))


@DETERMINED
@given(world=worlds(kinds=["multicast", "unicast"], rules=False))
def test_over_vxlan(nodes: TwoNodes, world: World) -> None:
    asyncio.run(check(nodes, world))


@DETERMINED
@given(world=worlds(kinds=["local", "bridge", "multicast", "unicast"], rules=True))
def test_past_security_groups(nodes: TwoNodes, world: World) -> None:
    asyncio.run(check(nodes, world))
