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
GROWTH = {"objects": 25, "blocks": 400, "rss_mib": 4.0}
"""While 30 VMs live: less than one object for each that holds others, and thirteen of any kind."""


def measured() -> list[dict[str, Any]]:
    """What is there after each round."""
    with tempfile.TemporaryDirectory(prefix=f"{processes.RUN}-lives-", dir="/var/tmp") as directory:
        words = [sys.executable, "-m", "tests.support.lives", directory, str(FIRST), str(VMS), str(ROUNDS)]
        argv = ["unshare", "--net", "sh", "-ec", 'ip link set lo up; exec "$@"', "sh", *words]
        done = subprocess.run(
            argv, check=True, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2]
        )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"ours"')]


def test_nothing_of_vms_that_are_gone_is_in_memory() -> None:
    before = snapshot()
    rounds = measured()
    assert_nothing_leaked(before, snapshot())
    assert len(rounds) == ROUNDS
    for name in ("ours", "tasks"):
        assert rounds[-1][name] == rounds[1][name]
    for name, bound in GROWTH.items():
        # Something is always there for a moment: what stays is there in each of two rounds.
        early, late = (max(one[name] for one in rounds[1:3]), min(one[name] for one in rounds[-2:]))
        assert late - early < bound, name
