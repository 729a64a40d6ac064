"""The resolv.conf of a container on the node: a file of the engine's, which the container sees as its own.

What is changed here is changed in the container at once, as long as it is the same file: it is never replaced. The
container can write into it and set its rights, but not put something else in its place; nothing of the container's own
files is ever opened here.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onedock.nodeside.agent.resolver.content import compose, engines_own, is_given
from onedock.reconcilers.model import ContainerId
from onedock.reconcilers.resolver import Names

NAME = "resolv.conf"
HASH = "resolv.conf.hash"
"""What the engine noted of the text when it wrote it; the container does not see this file."""

_GIVEN = "hostconfig.json"
_MOST_BYTES = 64 * 1024
# A container may hold a lease on its file (fcntl), for which an open would wait.
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ChangedInsideError(Exception):
    """Somebody else has changed the file: it is left alone."""


def is_engines_matter(directory: Path, container: ContainerId, wanted: Names) -> bool:
    """Whether the engine will write these names at the container's next start. OSError: it cannot be known."""
    with _opened(directory, container) as place:
        return is_given(_given(_text(place, _GIVEN)), wanted)


def write_names(directory: Path, container: ContainerId, wanted: Names) -> bool:
    """Make the file say what is wanted; returns whether it had to be changed.

    Args:
        directory: of all containers of the engine.
        container: whose file it is.
        wanted: the names.

    Raises:
        ChangedInsideError: it is neither the engine's text nor ours.
        FileNotFoundError: there is no such container, or it was never started.
        OSError: it cannot be read or written, or is no plain file.
    """
    with _opened(directory, container) as place:
        file = _open(place, NAME, os.O_RDWR)
        try:
            present = _read(file)
            if not (engine_hash := _text(place, HASH)):
                raise FileNotFoundError  # the engine is just about to write it
            original = engines_own(present, engine_hash)
            if original is None:
                raise ChangedInsideError
            text = compose(original, _given(_text(place, _GIVEN)), wanted)
            if text == present:
                return False
            content = text.encode("latin-1")
            # Filled up to the old length: who reads before the end is cut off finds empty lines there.
            os.pwrite(file, content.ljust(len(present), b"\n"), 0)
            os.ftruncate(file, len(content))
            return True
        finally:
            os.close(file)


def read_text(directory: Path, container: ContainerId) -> str:
    """What the file says. OSError: it cannot be read, or is no plain file."""
    with _opened(directory, container) as place:
        return _text(place, NAME)


@contextmanager
def _opened(directory: Path, container: ContainerId) -> Iterator[int]:
    place = os.open(directory / container, os.O_DIRECTORY | _FLAGS)
    try:
        yield place
    finally:
        os.close(place)


def _open(place: int, name: str, how: int) -> int:
    file = os.open(name, how | _FLAGS, dir_fd=place)
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(file)
        raise OSError(f"{name} is no plain file")
    return file


def _text(place: int, name: str) -> str:
    file = _open(place, name, os.O_RDONLY)
    try:
        return _read(file)
    finally:
        os.close(file)


def _read(file: int) -> str:
    """Every byte is a character, so that nothing is lost. OSError: it is too long to be what it should be."""
    content = os.pread(file, _MOST_BYTES + 1, 0)
    if len(content) > _MOST_BYTES:
        raise OSError(f"it has more than {_MOST_BYTES} bytes")
    return content.decode("latin-1")


def _given(text: str) -> Names:
    """What the engine was told when the container was made. OSError: it cannot be understood."""
    try:
        said = json.loads(text)
        return Names(tuple(said.get("Dns") or ()), tuple(said.get("DnsSearch") or ()))
    except (ValueError, AttributeError, TypeError):
        raise OSError(f"{_GIVEN} of the engine is not understood") from None
