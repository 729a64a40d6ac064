"""The packaged unit of the controller under a real systemd: it starts, answers and stops with no oned in sight."""

import pwd
from pathlib import Path

import pytest
from tests.support import processes
from tests.support.kernel import requires
from tests.support.units import installed

from onedock.cli.client import get_json

pytestmark = [pytest.mark.root, requires("systemd")]

USER = "daemon"
STATE = Path("/var/lib/onedock/controller")
API = Path("/run/onedock/api.sock")


def limits(pid: int) -> dict[str, str]:
    """What the kernel says that a process may do."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def test_it_starts_answers_and_stops_with_no_oned_in_sight() -> None:
    others = {"user": USER, "groups": "onedock", "paths": f"-/var/lib/one -{STATE}"}
    with installed("controller", others=others) as unit:
        unit.systemctl("start")
        state = unit.shown("ActiveState", "SubState", "Type")
        assert state == ("active", "running", "notify")
        processes.wait_until(lambda: get_json(API, "/health")["resync_error"], within=30, what="it looked for oned")
        first = unit.pid
        assert get_json(API, "/health")["pid"] == first
        uid = pwd.getpwnam(USER).pw_uid
        shown = limits(first)
        assert shown["Uid"].split() == [str(uid)] * 4
        assert (int(shown["CapBnd"], 16), shown["NoNewPrivs"], shown["Seccomp"]) == (0, "1", "2")
        for path, mode in ((STATE, 0o750), (API, 0o660)):
            assert (path.stat().st_uid, path.stat().st_mode & 0o7777) == (uid, mode)

        unit.systemctl("restart")
        again = get_json(API, "/health")["pid"]
        assert again not in {0, first}
        assert unit.shown("ActiveState", "NRestarts", "MainPID") == ("active", "0", str(again))
        unit.systemctl("stop")
        stopped = unit.shown("ActiveState", "Result", "ExecMainStatus", "MainPID")
        assert stopped == ("inactive", "success", "0", "0")
