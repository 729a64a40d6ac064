"""Limits of a NIC, measured with real traffic; set, changed and taken away while it runs."""

from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.plumbing import NEEDS_ROOT, address, nic, throughput

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, VmId
from onedock.reconcilers.nic_parts import Bandwidth

pytestmark = NEEDS_ROOT

ATTEMPTS = 3
LIMITED, FREE = VmId(220_010), VmId(220_011)


@pytest.fixture(autouse=True)
async def free(client: AgentClient) -> None:
    await client.ensure(Network(FREE, (nic(FREE),)))


def is_limited(source: VmId, target: VmId, rate: int, *, seconds: float = 2.0) -> bool:
    """Whether ``rate`` bytes per second arrive, within a tenth.

    A machine that is busy with other things, such as guests that start, sends less, never more: up to three attempts.
    """
    least, most = rate * 0.9, rate * 1.1
    measured = []
    for _ in range(ATTEMPTS):
        measured.append(throughput(source, target, address(target), seconds=seconds))
        assert measured[-1] <= most, f"{measured} bytes per second, {rate} wanted"
        if measured[-1] >= least:
            return True
    raise AssertionError(f"{measured} bytes per second, {rate} wanted")


def qdiscs(agent: PrivateAgent, link: str, vm: VmId | None = None) -> list[str]:
    """Kinds of what queues on a link of the node or of a VM."""
    netns = f"one-{vm}" if vm is not None else agent.netns
    shown = agent.run(["tc", "qdisc", "show", "dev", link], netns=netns)
    return [line.split()[1] for line in shown.splitlines()]


@pytest.mark.parametrize("rate", [250_000, 12_500_000])
async def test_both_directions_are_right_within_ten_percent(client: AgentClient, rate: int) -> None:
    wanted = Network(LIMITED, (nic(LIMITED, inbound=Bandwidth(rate), outbound=Bandwidth(2 * rate)),))
    assert (await client.ensure(wanted)).provides(wanted)

    assert is_limited(FREE, LIMITED, rate)
    assert is_limited(LIMITED, FREE, 2 * rate)


async def test_a_burst_passes_at_peak_speed_only(client: AgentClient) -> None:
    limit = Bandwidth(average=100_000, peak=4_000_000, burst=80_000_000)
    await client.ensure(Network(LIMITED, (nic(LIMITED, inbound=limit),)))
    assert is_limited(FREE, LIMITED, 4_000_000, seconds=1)


async def test_limits_change_while_it_runs_and_go(agent: PrivateAgent, client: AgentClient) -> None:
    host, nothing = nic(LIMITED).host_name, ["noqueue"]
    steps: list[dict[str, Any]] = [
        {"inbound": Bandwidth(1_000_000)},
        {"inbound": Bandwidth(2_000_000, 3_000_000, 500_000), "outbound": Bandwidth(1_000_000)},
        {"outbound": Bandwidth(700_000_000)},
        {},
    ]
    for limits in steps:
        wanted = Network(LIMITED, (nic(LIMITED, **limits),))
        assert (await client.ensure(wanted)).provides(wanted)
        assert qdiscs(agent, host) == (["tbf"] if "inbound" in limits else nothing)
        assert qdiscs(agent, "eth0", LIMITED) == (["tbf"] if "outbound" in limits else nothing)
        assert await client.ensure(wanted) == await client.observe(LIMITED)


@pytest.mark.parametrize("limit", [Bandwidth(300_000, burst=2**33), Bandwidth(2**32 - 1), Bandwidth(1024), None])
async def test_what_somebody_put_there_is_replaced(
    agent: PrivateAgent, client: AgentClient, limit: Bandwidth | None
) -> None:
    wanted = Network(LIMITED, (nic(LIMITED, inbound=limit, outbound=limit),))
    assert (await client.ensure(wanted)).provides(wanted)
    by_hand = ["root", "pfifo", "limit", "7"]
    agent.run(["tc", "qdisc", "replace", "dev", nic(LIMITED).host_name, *by_hand])
    agent.run(["tc", "qdisc", "replace", "dev", "eth0", *by_hand], netns=f"one-{LIMITED}")

    assert (await client.ensure(wanted)).provides(wanted)
    kind = "noqueue" if limit is None else "tbf"
    assert qdiscs(agent, nic(LIMITED).host_name) == qdiscs(agent, "eth0", LIMITED) == [kind]
