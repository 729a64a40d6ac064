"""From oned's line to the answer line when the network of a running VM changes."""

import asyncio

from bench.deploy import Oned
from bench.documents import change_line
from bench.measure import Report, Row, series
from bench.stage import RealNode, Stage

ROUNDS = 40
GOAL_MS = 50.0
"""Of the project: what a hot change may take beside oned's part."""
ACTIONS = ("ATTACHNIC", "UPDATESG", "DETACHNIC")


async def changes() -> Report:
    """A NIC comes, is looked at for a security group, and goes."""
    found: dict[str, list[float]] = {action: [] for action in ACTIONS}
    with RealNode() as node:
        async with Stage([node.entry]) as stage:
            await asyncio.to_thread(stage.controller.start)
            with stage.driver("vmm") as driver:
                oned = Oned(stage, driver, node.image)
                vm = oned.new_vm()
                await oned.deploy([vm])
                for index in range(-2, ROUNDS):
                    for action in ACTIONS:
                        seconds = await oned.ask(action, [change_line(action, vm)])
                        if index >= 0:  # the first ones find cold caches
                            found[action] += seconds
                await oned.clean_up()
    rows = [
        Row(f"{action} line in → answer out", series(samples), goal=GOAL_MS, goal_of="p99")
        for action, samples in found.items()
    ]
    return Report("NICs of a running VM", rows)
