"""VMs that come and go leave nothing in the agent's memory."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support import processes
from tests.support.leaks import assert_nothing_leaked, snapshot
from tests.support.plumbing import NEEDS_ROOT

pytestmark = NEEDS_ROOT

FIRST, VMS, ROUNDS = 280_300, 15, 6
GROWTH_MIB = 4.0
"""Of memory as the kernel counts it, which is never given back to the byte."""
GROWTH_OBJECTS, GROWTH_BLOCKS = 50, 600
"""Of Python's own counts, while 60 VMs live: less than an object that holds others for each, ten of any kind."""


def measured() -> list[dict[str, Any]]:
    """What is there after each round."""
    with tempfile.TemporaryDirectory(prefix=f"{processes.RUN}-lives-", dir="/var/tmp") as directory:
        words = [sys.executable, "-m", "tests.support.lives", directory, str(FIRST), str(VMS), str(ROUNDS)]
        argv = ["unshare", "--net", "sh", "-ec", 'ip link set lo up; exec "$@"', "sh", *words]
        done = subprocess.run(
            argv, check=True, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2]
        )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"ours"')]


def test_nothing_of_vms_that_are_gone_is_in_memory() -> None:
    before = snapshot()
    rounds = measured()
    assert_nothing_leaked(before, snapshot())
    assert len(rounds) == ROUNDS
    second, last = rounds[1], rounds[-1]
    for name in ("ours", "descriptors", "tasks"):
        assert last[name] == second[name]
    assert last["objects"] - second["objects"] < GROWTH_OBJECTS
    assert last["blocks"] - second["blocks"] < GROWTH_BLOCKS
    assert last["rss_mib"] - second["rss_mib"] < GROWTH_MIB
