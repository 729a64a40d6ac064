"""Heals of an agent, counted by a test that damages the same thing again and again."""

import time

from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient

AT_ONCE_S = 1.1


async def number_of_heals(client: AgentClient) -> int:
    """So far; what is undone sooner than a second after the last one is put back with growing pauses."""
    heals = await client.heals()
    last = max((one.time for one in heals.recent), default=0.0)
    await eventually(lambda: time.time() > last + AT_ONCE_S)
    return sum(heals.counts.values())
