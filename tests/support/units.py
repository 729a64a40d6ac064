"""Packaged units under a systemd that belongs to the tests: in the guest only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onedock.install.steps import Steps
from onedock.install.system import System

_PROGRAMS = Path("/usr/local/bin")
_MODULES = {"agent": "onedock.nodeside.agent", "controller": "onedock.controller"}


class Unit:
    """``with installed("agent") as unit:`` gives one that is not started."""

    def __init__(self, role: str) -> None:
        self.name = f"onedock-{role}.service"

    def systemctl(self, verb: str, *words: str) -> str:
        """Output of systemctl about this unit. AssertionError has the end of its journal when it fails."""
        done = subprocess.run(
            ["systemctl", verb, *words, self.name], check=False, capture_output=True, text=True, timeout=120
        )
        if done.returncode != 0:
            journal = ["journalctl", "-u", self.name, "-n", "40", "--no-pager"]
            log = subprocess.run(journal, check=False, capture_output=True, text=True, timeout=60)
            raise AssertionError(f"systemctl {verb} {self.name}: {done.stderr}{log.stdout}")
        return done.stdout

    def shown(self, *names: str) -> tuple[str, ...]:
        """Properties of the unit, in the order asked for."""
        lines = self.systemctl("show", f"--property={','.join(names)}").splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return tuple(found[name] for name in names)

    @property
    def pid(self) -> int:
        """Its process; 0 when there is none."""
        return int(self.shown("MainPID")[0])


@contextmanager
def installed(role: str, *, others: dict[str, str] | None = None, drop_in: str = "") -> Iterator[Unit]:
    """The unit as ``onedock install`` makes it, for programs that start this source.

    Args:
        role: ``agent`` or ``controller``.
        others: what else the unit has between two @.
        drop_in: settings of section [Service] that only a test has.
    """
    unit, program, steps = Unit(role), _PROGRAMS / f"onedock-{role}", Steps(dry_run=False, show=lambda _: None)
    system = System(programs=_PROGRAMS)
    program.write_text(f"#!/bin/sh\nPYTHONPATH={os.environ['PYTHONPATH']} exec python3 -m {_MODULES[role]}\n")
    program.chmod(0o755)
    extra = Path("/run/systemd/system", f"{unit.name}.d", "tests.conf")
    extra.parent.mkdir(parents=True)
    extra.write_text(f"[Service]\n{drop_in}")
    try:
        system.install(steps, role, others=others)
        yield unit
    finally:
        extra.unlink()
        extra.parent.rmdir()
        system.uninstall(steps, role)
        program.unlink()
