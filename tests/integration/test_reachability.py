"""Two nodes, random VMs on them: what is reached is what the networks say, no more and no less."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.support.oracle import World, reached
from tests.support.probing import Probing
from tests.support.topology import TwoNodes, all_probes, worlds

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
    finally:
        await nodes.clear()


def compare(world: World) -> None:
    probes = all_probes(world)
    expected = {probe: reached(world, probe) for probe in probes}
    with Probing(world) as probing:
        measured = probing.measure(probes, expected=expected)
    wrong = [
        f"{probe}: VM {measured[probe]} instead of {expected[probe]}"
        for probe in probes
        if measured[probe] != expected[probe]
    ]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(probes)} differ", *wrong[:20]])


@DETERMINED
@given(world=worlds(kinds=["local", "bridge"], rules=False))
def test_over_bridges(nodes: TwoNodes, world: World) -> None:
    asyncio.run(check(nodes, world))
