"""Copies of a file as it was before it was changed: taken once, and gone when the file is as it was."""

from collections.abc import Callable
from datetime import UTC, datetime
from operator import eq
from pathlib import Path

from onedock.install.steps import Steps, decode

_SUFFIX = ".onedock-backup-"


def name_for(path: Path) -> Path:
    """Where the copy of a file goes that is changed now."""
    return path.with_name(f"{path.name}{_SUFFIX}{datetime.now(UTC):%Y%m%dT%H%M%SZ}")


def any_of(path: Path) -> bool:
    """Whether there is a copy of this file."""
    return any(path.parent.glob(f"{path.name}{_SUFFIX}*"))


def undo(steps: Steps, path: Path, text: str, cleaned: str, *, same: Callable[[str, str], bool] = eq) -> None:
    """Bring a changed file back to what it was.

    When ``cleaned``, its ``text`` without what was added to it, is the ``same`` as a backup, then nothing else has
    changed since, and the backup takes its place. Otherwise ``cleaned`` is written, and the backup stays for the admin.
    """
    if cleaned == text:
        steps.done(f"file {path}", changed=False, detail="has nothing of ONEDock")
        return
    for copy in sorted(path.parent.glob(f"{path.name}{_SUFFIX}*"), reverse=True):
        before = decode(copy.read_bytes())
        if same(before, cleaned):
            steps.edit(path, text, before, detail="byte for byte as before")
            steps.absent(copy)
            return
    steps.edit(path, text, cleaned, detail="not as in any backup: only what ONEDock had added is removed")
