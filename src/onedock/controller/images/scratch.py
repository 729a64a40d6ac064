"""Private temporary directories that vanish in every case, also after a crash.

A live directory is locked (``flock``), and the kernel drops the lock of a dead process: whoever makes a new
directory first removes those of its own user that nobody locks.
"""

import asyncio
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from onedock.reconcilers.errors import TerminalError

_PREFIX = "onedock-import-"


@asynccontextmanager
async def scratch_directory(parent: Path) -> AsyncIterator[Path]:
    """A new directory below ``parent`` that only this user can enter. Raises TerminalError."""
    try:
        directory, lock = await asyncio.to_thread(_make, parent)
    except OSError as error:
        raise TerminalError(
            f"{parent}: {error.strerror}: let oneadmin write there, or correct [registry] scratch_dir"
        ) from error
    try:
        yield directory
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        os.close(lock)


def _make(parent: Path) -> tuple[Path, int]:
    for left_over in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # removed by another, or not ours
            _remove_unlocked(left_over)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    return directory, _lock(directory)


def _remove_unlocked(directory: Path) -> None:
    """The parent is writable for everybody: only a true directory of our own is taken for ours."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    lock = _lock(directory)
    try:
        shutil.rmtree(directory)
    finally:
        os.close(lock)


def _lock(directory: Path) -> int:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
