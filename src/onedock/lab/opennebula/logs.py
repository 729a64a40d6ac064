"""The log files of oned: ``oned.log``, ``monitor.log`` and one per VM, in OpenNebula's line format."""

import time
from pathlib import Path


def stamp(epoch: float) -> str:
    """The time as oned writes it: ``Fri Nov 20 19:16:33 2026``."""
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(epoch))


class Logs:
    """Appends lines to the files below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def vm(self, vm_id: int, driver: str, level: str, text: str) -> None:
        """One line in the log of a VM; ids below 0 go to ``oned.log``."""
        self._append(f"{vm_id}.log" if vm_id >= 0 else "oned.log", driver, level, text)

    def oned(self, driver: str, level: str, text: str) -> None:
        """One line in ``oned.log``."""
        self._append("oned.log", driver, level, text)

    def monitor(self, level: str, text: str) -> None:
        """One line in ``monitor.log``."""
        self._append("monitor.log", "MON", level, text)

    def _append(self, name: str, driver: str, level: str, text: str) -> None:
        with (self._directory / name).open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{stamp(time.time())} [Z0][{driver}][{level}]: {text}\n")
