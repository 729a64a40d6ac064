"""Copies of a file as it was before it was changed: taken once, and gone when the file is as it was."""

from datetime import UTC, datetime
from pathlib import Path

from onedock.install.steps import Steps, decode

_SUFFIX = ".onedock-backup-"


def name_for(path: Path) -> Path:
    """Where the copy of a file goes that is changed now."""
    return path.with_name(f"{path.name}{_SUFFIX}{datetime.now(UTC):%Y%m%dT%H%M%SZ}")


def undo(steps: Steps, path: Path, text: str, cleaned: str) -> None:
    """Write ``cleaned``: the ``text`` of a changed file without what was added to it.

    When that is the backup, nothing else has changed since, and the backup goes; otherwise it stays for the admin.
    """
    if cleaned == text:
        steps.done(f"file {path}", changed=False, detail="has nothing of ONEDock")
        return
    copies = sorted(path.parent.glob(f"{path.name}{_SUFFIX}*"), reverse=True)
    same = next((copy for copy in copies if decode(copy.read_bytes()) == cleaned), None)
    detail = "byte for byte as before" if same else "not as in any backup: only what ONEDock had added is removed"
    steps.edit(path, text, cleaned, detail=detail)
    if same:
        steps.absent(same)
