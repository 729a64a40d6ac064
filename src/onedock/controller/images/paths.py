"""Archives on the front-end: which may be read, and reading the one that was checked.

The datastore's SAFE_DIRS and RESTRICTED_DIRS are not enforced by oned (protocol reference 4.3, trap 29): a
driver that reads local paths as ``oneadmin`` would otherwise hand any file of the front-end to any user.

The check cannot be outrun by swapping a symbolic link: the path is followed once, by ``O_PATH``, which
touches nothing; the kernel says where that led; and what is read is that very file, through its descriptor.
skopeo gets the descriptor too (``/proc/self/fd/N``): no path is resolved a second time, and no copy is made.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from onedock.reconcilers.errors import TerminalError


@dataclass(frozen=True, slots=True)
class DirectoryRules:
    """What a datastore says about local paths; the defaults are those of the stock ``fs`` driver."""

    safe: tuple[str, ...] = ("/var/tmp",)  # noqa: S108 - the stock default, directories to read from
    restricted: tuple[str, ...] = ("/",)

    @classmethod
    def from_template(cls, safe_dirs: str, restricted_dirs: str) -> "DirectoryRules":
        """From SAFE_DIRS and RESTRICTED_DIRS (blank separated); an empty one means the default."""
        default = cls()
        return cls(tuple(safe_dirs.split()) or default.safe, tuple(restricted_dirs.split()) or default.restricted)

    def resolved(self) -> "DirectoryRules":
        """The same rules with symbolic links followed, as ``readlink -f`` does."""
        return DirectoryRules(tuple(map(os.path.realpath, self.safe)), tuple(map(os.path.realpath, self.restricted)))

    def allow(self, path: str) -> bool:
        """Whether this resolved absolute path may be read: a safe directory outweighs a restricted one."""
        return _inside(path, self.safe) or not _inside(path, self.restricted)


def open_archive(path: str, rules: DirectoryRules) -> int:
    """Open a local archive for reading and return its descriptor, which the caller closes.

    Raises TerminalError: it may not be read, is not there, or is no regular file. Nothing is told about
    files that may not be read, not even whether they exist.
    """
    try:
        anchor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        if not rules.allow(os.path.normpath(f"/{path.lstrip('/')}")):
            raise _restricted(path) from None
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise TerminalError(f"{path}: {reason}: put the archive where oneadmin can read it") from error
    try:
        # The safe directories themselves may be links (/var/tmp -> /data/tmp): the rules are resolved alike.
        if not rules.resolved().allow(str(Path(f"/proc/self/fd/{anchor}").readlink())):
            raise _restricted(path)
        if not stat.S_ISREG(os.fstat(anchor).st_mode):
            raise TerminalError(f"{path}: not a regular file: give the archive that `docker save` wrote")
        return os.open(f"/proc/self/fd/{anchor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise TerminalError(f"{path}: {error.strerror}: let oneadmin read the archive") from error
    finally:
        os.close(anchor)


def _inside(path: str, directories: Sequence[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(directory) for directory in directories)


def _restricted(path: str) -> TerminalError:
    return TerminalError(f"{path}: images may not be read from there: move it to one of the datastore's SAFE_DIRS")
