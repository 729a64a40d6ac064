"""Transfer and datastore scripts as one_tm and one_datastore run them (protocol reference 1.6, 3.1 and 4.2)."""

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path

_LOGGED = re.compile(r"^(ERROR|INFO|WARN|DEBUG): (?:\[(-?\d+)\] )?(.*)$")
_SEVERITY = {"ERROR": "E", "WARN": "W", "INFO": "I", "DEBUG": "D"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a script said: ``info`` is its output when it worked and its error text otherwise."""

    ok: bool
    info: str
    log: tuple[tuple[str, str], ...] = ()
    """Lines for the log: severity letter and text."""


class Scripts:
    """Runs the scripts below one ``remotes`` directory.

    Args:
        remotes: Directory with ``tm/`` and ``datastore/``.
        working_directory: Where they run (VAR of oned).
    """

    def __init__(self, remotes: Path, working_directory: Path) -> None:
        self._remotes = remotes
        self._working_directory = working_directory

    async def transfer(self, script: str) -> Outcome:
        """Runs the lines of a transfer script in order, up to the first that fails."""
        log: tuple[tuple[str, str], ...] = ()
        for line in script.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            command, mad, *arguments = line.split()
            outcome = await self.tm(mad, command.lower(), arguments)
            log += outcome.log
            if not outcome.ok:
                return Outcome(False, outcome.info, log)
        return Outcome(True, "-", log)

    async def tm(self, mad: str, action: str, arguments: list[str], stdin: str = "") -> Outcome:
        """Runs one transfer action."""
        directory = self._remotes / "tm" / mad
        if not directory.is_dir():
            return Outcome(False, f"Transfer Driver '{mad}' not available")
        path = directory / action
        if not path.exists() and "." in action:
            path = directory / action.rpartition(".")[0]
        return await self._run(path, arguments, stdin)

    async def datastore(self, mad: str, action: str, number: int, stdin: str) -> Outcome:
        """Runs one datastore action; ``stdin`` is the base64 text of the driver document."""
        directory = self._remotes / "datastore" / mad
        if not directory.is_dir():
            return Outcome(False, f"Datastore driver '{mad}' not available")
        return await self._run(directory / action, [str(number)], stdin)

    async def _run(self, path: Path, arguments: list[str], stdin: str) -> Outcome:
        try:
            process = await asyncio.create_subprocess_exec(
                path,
                *arguments,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self._working_directory,
                env=dict(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(False, f"{path} cannot be executed: {error.strerror}")
        output, errors = await process.communicate(stdin.encode() if stdin else None)
        return _outcome(path, process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


def _outcome(path: Path, code: int, output: str, errors: str) -> Outcome:
    log: list[tuple[str, str]] = []
    info: list[str] = []
    for line in errors.splitlines():
        if match := _LOGGED.match(line):
            log.append((_SEVERITY[match.group(1)], match.group(3)))
        else:
            info.append(line.strip())
    if code == 0:
        return Outcome(True, output, tuple(log))
    log.append(("I", f"Command execution failed (exit code: {code}): {path}"))
    return Outcome(False, "".join(info) or "-", tuple(log))
