"""The steps of an installation: each brings one thing into its wanted state, and says whether it had to.

With ``dry_run`` nothing is written, and each step says what it would do.
"""

import difflib
import grp
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "changed", "planned", "note"]
Owner = tuple[int, int]
"""User and group, by number."""
ROOT: Owner = (0, 0)


class InstallError(Exception):
    """The installation cannot go on. The message names cause and remedy."""


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one thing."""

    name: str
    state: State
    """``ok``: it was so already; ``planned``: only said, because of a dry run; ``note``: for the admin to read."""
    detail: str = ""
    diff: str = ""
    """Unified, of a file that people keep."""


class Steps:
    """Takes the steps and hands each to ``show``."""

    def __init__(self, *, dry_run: bool, show: Callable[[Step], None]) -> None:
        self.dry_run = dry_run
        self.taken: list[Step] = []
        self._show = show

    def note(self, name: str, detail: str) -> None:
        """Something that the admin should know."""
        self._add(Step(name, "note", detail))

    def done(self, name: str, *, changed: bool, detail: str = "", diff: str = "") -> None:
        """A step whose work, if any, was just done, or was left out for a dry run."""
        state: State = "ok" if not changed else "planned" if self.dry_run else "changed"
        self._add(Step(name, state, detail, diff if changed else ""))

    def directory(self, path: Path, *, mode: int, owner: Owner) -> None:
        """A directory with exactly this mode and owner; its parents with root's."""
        state = path.stat() if path.is_dir() else None
        right = state and (state.st_mode & 0o7777, state.st_uid, state.st_gid) == (mode, *owner)
        if not right and not self.dry_run:
            path.mkdir(parents=True, exist_ok=True)
            os.chown(path, *owner)
            path.chmod(mode)
        self.done(f"directory {path}", changed=not right)

    def file(self, path: Path, content: bytes, *, mode: int = 0o644, owner: Owner = ROOT) -> bool:
        """A file of the installer's own, with this content, mode and owner; returns whether it was changed."""
        right = path.is_file() and path.read_bytes() == content
        if right:
            state = path.stat()
            right = (state.st_mode & 0o7777, state.st_uid, state.st_gid) == (mode, *owner)
        if not right and not self.dry_run:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, content, mode=mode, owner=owner)
        self.done(f"file {path}", changed=not right)
        return not right

    def edit(self, path: Path, before: str, after: str, *, detail: str = "", backup: Path | None = None) -> None:
        """A file of the admin's, whose text changes; owner and mode stay. ``backup`` is written first."""
        if after != before and not self.dry_run:
            target = path.resolve()  # a link, as of those who keep /etc elsewhere, stays one
            state = target.stat()
            owner = (state.st_uid, state.st_gid)
            if backup is not None:
                replace(backup, encode(before), mode=state.st_mode & 0o7777, owner=owner)
            replace(target, encode(after), mode=state.st_mode & 0o7777, owner=owner)
        if backup is not None and after != before:
            detail = f"backup {backup}"
        self.done(f"file {path}", changed=after != before, detail=detail, diff=_diff(path, before, after))

    def absent(self, path: Path) -> None:
        """No such file, or directory with all in it."""
        there = path.is_symlink() or path.exists()
        if there and not self.dry_run:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.done(f"remove {path}", changed=there)

    def group(self, name: str) -> int | None:
        """A system group; returns its number, None when a dry run leaves it out."""
        try:
            found: int | None = grp.getgrnam(name).gr_gid
        except KeyError:
            found = None
        if found is None and not self.dry_run:
            run(["groupadd", "--system", name])
            found = grp.getgrnam(name).gr_gid
            self.done(f"group {name}", changed=True)
        else:
            self.done(f"group {name}", changed=found is None)
        return found

    def member(self, user: str, group: str) -> None:
        """A user who is in a group besides his own."""
        try:
            there = user in grp.getgrnam(group).gr_mem
        except KeyError:
            there = False  # a dry run has not made it
        if not there and not self.dry_run:
            run(["usermod", "--append", "--groups", group, user])
        self.done(f"user {user} in group {group}", changed=not there)

    def _add(self, step: Step) -> None:
        self.taken.append(step)
        self._show(step)


def run(argv: list[str]) -> str:
    """Output of a system's tool. Raises InstallError with what it said."""
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        done = subprocess.run(argv, check=True, capture_output=True, text=True, env={"PATH": path}, timeout=60)
    except subprocess.CalledProcessError as error:
        said = " ".join((error.stderr or error.stdout).split())
        raise InstallError(f"{' '.join(argv)} failed with {error.returncode}: {said[:300]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{argv[0]} cannot be run: {error}") from None
    return done.stdout


def decode(content: bytes) -> str:
    """Text that becomes the same bytes again, whatever they are."""
    return content.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The inverse of :func:`decode`."""
    return text.encode("utf-8", "surrogateescape")


def replace(path: Path, content: bytes, *, mode: int, owner: Owner) -> None:
    """Put a whole file in place at once, on disk before it is seen."""
    draft = path.with_name(f".{path.name}.onedock-{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _diff(path: Path, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), str(path), f"{path} (new)", n=1
    )
    # Text that is no UTF-8 is shown, not written.
    text = "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return encode(text).decode("utf-8", "replace")
