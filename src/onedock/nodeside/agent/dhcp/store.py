"""What is remembered of each DHCP client over the agent's end: one JSON file per NIC."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from onedock.nodeside.agent.dhcp.lease import Lease
from onedock.nodeside.agent.store import write_atomically
from onedock.reconcilers.model import VmId

log = structlog.get_logger()

_NAME = re.compile(r"([0-9]{1,10})-([0-9]{1,5})", re.ASCII)

Key = tuple[VmId, int]
"""VM and NIC_ID."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The memory of one client."""

    lease: Lease | None = None
    pid: int = 0
    started: int = 0
    """Clock ticks between boot and its start: with the pid, nobody else's."""


_ADAPTER = TypeAdapter(Kept)


class LeaseStore:
    """All memories, read once."""

    def __init__(self, directory: Path) -> None:
        """Read ``directory``, making it if need be. A file that cannot be read is logged and left alone."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._kept: dict[Key, Kept] = {}
        for file in directory.glob("*.json"):
            if (name := _NAME.fullmatch(file.stem)) is None:
                continue
            try:
                self._kept[VmId(int(name[1])), int(name[2])] = _ADAPTER.validate_json(file.read_bytes())
            except (ValidationError, OSError) as error:
                log.error("kept lease cannot be read, left alone", file=str(file), error=str(error)[:300])

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._kept))

    def get(self, key: Key) -> Kept:
        """What is remembered; nothing, when that is so."""
        return self._kept.get(key, Kept())

    def keep(self, key: Key, kept: Kept) -> None:
        """Remember it. Blocks until it is on the disk."""
        if kept != self._kept.get(key):
            self._kept[key] = kept
            write_atomically(self._file(key), _ADAPTER.dump_json(kept))

    def forget(self, key: Key) -> None:
        """Remember nothing of it; absent is success."""
        self._kept.pop(key, None)
        self._file(key).unlink(missing_ok=True)

    def _file(self, key: Key) -> Path:
        return self._directory / f"{key[0]}-{key[1]}.json"
