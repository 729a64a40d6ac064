"""What oned's own processes wait for: the start of the drivers, and one script per disk of a deploy."""

import asyncio
import os
import subprocess
from pathlib import Path

from tests.support.driver_process import DriverProcess

from bench.documents import NODE
from bench.measure import Report, Row, Stopwatch, series
from bench.stage import FIRST_VM, RealNode, Stage
from onedock.controller.driver.layout import lay_out

ROUNDS = 40
INTERPRETER = ("/usr/bin/python3", "-IS", "-c", "pass")


def _bare() -> float:
    """The interpreter that the drivers run on, doing nothing; forked as oned forks."""
    with Stopwatch() as watch:
        subprocess.run(INTERPRETER, check=True, preexec_fn=lambda: None)
    return watch.seconds


def _start(stage: Stage, kind: str) -> float:
    with Stopwatch() as watch:
        driver: DriverProcess = stage.driver(kind)
    driver.__exit__()
    return watch.seconds


def _script(stage: Stage, script: Path, image: str) -> float:
    """One ``clone`` whose image is on the node already: everything but the pull."""
    target = f"{NODE}:/var/lib/one/datastores/100/{FIRST_VM}/disk.0"
    environment = os.environ | {"ONEDOCK_DRIVER_SOCKET": str(stage.socket)}
    with Stopwatch() as watch:
        subprocess.run(
            [script, f"docker://{image}", target, str(FIRST_VM), "101"],
            check=True,
            env=environment,
            preexec_fn=lambda: None,
        )
    return watch.seconds


async def round_trips() -> Report:
    """Interpreter, drivers and script in turns."""
    bare: list[float] = []
    vmm: list[float] = []
    im: list[float] = []
    clone: list[float] = []
    with RealNode() as node:
        async with Stage([node.entry]) as stage:
            await asyncio.to_thread(stage.controller.start)
            remotes = stage.directory / "remotes"
            lay_out(remotes)
            script = remotes / "tm/onedock/clone"
            await asyncio.to_thread(_script, stage, script, node.image)  # opens the node
            for _ in range(ROUNDS):
                bare.append(await asyncio.to_thread(_bare))
                vmm.append(await asyncio.to_thread(_start, stage, "vmm"))
                im.append(await asyncio.to_thread(_start, stage, "im"))
                clone.append(await asyncio.to_thread(_script, stage, script, node.image))
    floor = series(bare)
    return Report(
        "Drivers and scripts",
        [
            Row("python3 -IS -c pass (floor)", floor),
            Row("vmm: start → INIT SUCCESS", series(vmm), baseline=floor),
            Row("im: start → INIT SUCCESS", series(im), baseline=floor),
            Row("tm/onedock/clone, image present: start → exit", series(clone), baseline=floor),
        ],
    )
