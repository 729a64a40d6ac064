"""When the engine writes files of its containers: inotify, read by the event loop."""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE = 0x8, 0x80, 0x100
_IN_Q_OVERFLOW, _IN_IGNORED = 0x4000, 0x8000
_IN_DONT_FOLLOW = 0x02000000
_EVENT = struct.Struct("=iIII")
_BUFFER = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """Watches of one event loop.

    Args:
        tell: told the name under which a watch was asked for, whenever something happens there.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._watched: dict[int, tuple[str, bytes]] = {}
        self._loop.add_reader(self._descriptor, self._read)

    def watch_entry(self, file: Path, name: str) -> None:
        """Tell ``name`` when its directory gets a new file of this name. OSError: it cannot be watched."""
        self._add(file.parent, _IN_CREATE | _IN_MOVED_TO, name, file.name)

    def watch_writes(self, file: Path, name: str) -> None:
        """Tell ``name`` when somebody has written the file. OSError: it cannot be watched."""
        self._add(file, _IN_CLOSE_WRITE, name)

    def forget(self, name: str) -> None:
        """Watch nothing under this name any more."""
        for watch in [one for one, (known, _) in self._watched.items() if known == name]:
            del self._watched[watch]
            _libc.inotify_rm_watch(self._descriptor, watch)  # fails when what was watched is gone

    def close(self) -> None:
        """Watch nothing."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _add(self, path: Path, what: int, name: str, entry: str = "") -> None:
        # The same path twice is one watch.
        watch = _checked(_libc.inotify_add_watch(self._descriptor, os.fsencode(path), what | _IN_DONT_FOLLOW))
        self._watched[watch] = name, os.fsencode(entry)

    def _read(self) -> None:
        told: dict[str, None] = {}
        with suppress(BlockingIOError):
            events = os.read(self._descriptor, _BUFFER)
            offset = 0
            while offset + _EVENT.size <= len(events):
                watch, what, _, length = _EVENT.unpack_from(events, offset)
                offset += _EVENT.size
                entry = events[offset : offset + length].rstrip(b"\0")  # empty for what is watched itself
                offset += length
                if what & _IN_Q_OVERFLOW:
                    told.update((name, None) for name, _ in self._watched.values())
                name, wanted = self._watched.get(watch, ("", b""))
                if what & _IN_IGNORED:
                    self._watched.pop(watch, None)
                if name and entry == wanted:
                    told[name] = None
        for name in told:
            self._tell(name)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"inotify: {os.strerror(number)}")
    return result
