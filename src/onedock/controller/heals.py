"""Networks that agents put back: each agent tells as it happens, and the log of the VM keeps it.

Nothing is done about them here. The log is also the memory of what was told already: an agent numbers its heals from
its start on, and every line has both.
"""

import asyncio
from collections.abc import Callable

import structlog

from onedock.controller.journal import Journal
from onedock.controller.journal_rows import HEALED
from onedock.controller.metrics import Metrics
from onedock.controller.nodes import Node
from onedock.nodeside.heals import Healed, Heals
from onedock.reconcilers.errors import OnedockError

log = structlog.get_logger(__name__)

_WAIT_S = 20
"""How long an agent may have nothing to tell; below the deadline of calls to it."""
_PAUSE_S = 2.0
"""After an agent had nothing to tell, or did not answer: one of an earlier release answers at once."""
_STEPS = 12


async def follow_heals(node: Node, journal: Journal, metrics: Metrics, *, returned: Callable[[], None]) -> None:
    """Log what the agent of a node tells, for ever. ``returned`` is called when it answers again after it did not."""
    agent_started, number = await journal.last_heal(node.name)
    wait_s, away = 0, False
    while True:
        try:
            heals = await node.agent.heals(since=number, wait_s=wait_s)
        except OnedockError:
            # The agent's health is looked at elsewhere; it may be another one that comes back.
            wait_s, away = 0, True
            await asyncio.sleep(_PAUSE_S)
            continue
        if away:
            away = False
            returned()
        if heals.agent_started != agent_started:
            agent_started, number, wait_s = heals.agent_started, 0, 0
            continue
        for healed in heals.recent:
            _tell(node, healed, heals)
            metrics.heals.labels(node.name, healed.cause).inc()
            number = healed.number
        node.heals = heals.counts
        if heals.recent:
            node.last_heal = heals.recent[-1]
        elif wait_s:
            await asyncio.sleep(_PAUSE_S)
        wait_s = _WAIT_S


def _tell(node: Node, healed: Healed, heals: Heals) -> None:
    more = len(healed.steps) - _STEPS
    log.info(
        HEALED,
        vm=healed.vm,
        node=node.name,
        cause=healed.cause.value,
        what="; ".join([*healed.steps[:_STEPS], *([f"{more} more"] if more > 0 else ())]),
        seconds=healed.seconds,
        heal=[heals.agent_started, healed.number],
    )
