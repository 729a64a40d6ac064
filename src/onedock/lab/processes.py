"""The lab's daemons: started detached, found again by pid file and mark, ended for good."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from onedock.lab.errors import LabError
from onedock.lab.layout import MARK, Layout

START_S = 60.0
GRACE_S = 15.0
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Part:
    """One daemon."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool]
    """Whether it serves."""
    environment: tuple[tuple[str, str], ...] = ()


def wait_until(condition: Callable[[], bool], *, within: float, otherwise: str) -> None:
    """Block until the condition holds; LabError with the text after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(otherwise)
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def marked(layout: Layout) -> Iterator[int]:
    """Every living process of this lab, by the mark in its environment."""
    wanted = os.fsencode(f"{MARK}={layout.state}")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0") and alive(int(entry.name)):
                yield int(entry.name)


def others_running(*names: str) -> Iterator[int]:
    """Processes whose program, script or module has one of these names."""
    wanted = {os.fsencode(name) for name in names}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")[:3]
                if wanted & {word.rpartition(b"/")[2] for word in words}:
                    yield int(entry.name)


def running(layout: Layout, name: str) -> int | None:
    """Process id of a part, None when it does not run. A number that was reused by others is not taken for it."""
    try:
        pid = int(layout.pid_file(name).read_text())
    except (OSError, ValueError):
        return None
    return pid if pid in set(marked(layout)) else None


def ensure(layout: Layout, part: Part) -> bool:
    """Have it running and serving; returns whether it had to be started.

    Raises LabError with the end of its log when it ends or does not serve in time.
    """
    log = layout.log(part.name)
    pid = running(layout, part.name)
    started = pid is None
    if pid is None:
        pid = _spawn(layout, part, log)
    deadline = time.monotonic() + START_S
    while not part.ready():
        if not alive(pid):
            raise LabError(f"{part.name} ended at once; the end of {log} says why:\n{_end_of(log)}")
        if time.monotonic() > deadline:
            raise LabError(
                f"{part.name} runs (process {pid}) but does not answer after {START_S:.0f} s; make demo-stop ends it; "
                f"the end of {log}:\n{_end_of(log)}"
            )
        time.sleep(0.05)
    return started


def _spawn(layout: Layout, part: Part, log: Path) -> int:
    environment = os.environ | {MARK: str(layout.state), "PATH": layout.path} | dict(part.environment)
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                part.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=layout.state,
                start_new_session=True,
            )
    except OSError as error:
        raise LabError(f"{part.name} cannot be started: {part.argv[0]}: {error.strerror}; try make deps") from error
    layout.pid_file(part.name).write_text(f"{process.pid}\n")
    return process.pid


def stop(layout: Layout, name: str) -> bool:
    """End a part, by force after a grace; returns whether it ran."""
    pid = running(layout, name)
    if pid is not None:
        end(pid)
    layout.pid_file(name).unlink(missing_ok=True)
    return pid is not None


def end(pid: int, *, grace: float = GRACE_S) -> None:
    """SIGTERM a process, SIGKILL it after the grace, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGTERM)
        with suppress(LabError):
            wait_until(lambda: not alive(pid), within=grace, otherwise="still there")
            return
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), within=GRACE_S, otherwise=f"process {pid} cannot be killed; look with ps")


def descendants(root: int) -> list[int]:
    """Children, grandchildren and so on, the nearest first."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [root]
    for ancestor in found:
        found += [pid for pid, parent in parents.items() if parent == ancestor]
    return found[1:]


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  | {line[:300]}" for line in lines[-_LOG_LINES:])
