"""Archives of images: what ``docker save`` and OCI tools write, made safe to hand to skopeo.

An archive comes from a user and may be anything. It is only read through its descriptor, within bounds. A plain
``docker save`` archive goes to skopeo as it is, by its descriptor, for skopeo unpacks nothing of it; a compressed
one is expanded first, to a limit; an OCI archive, which skopeo would unpack, is unpacked here, its known names
only.
"""

import asyncio
import gzip
import io
import json
import os
import re
import shutil
import tarfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from onedock.reconcilers.errors import TerminalError, TransientError

HEAD = 512
"""Bytes from the beginning that tell what a file is."""

_CHUNK = 1024 * 1024
_MEMBERS = 100_000
_LARGEST_INDEX = 4 * 1024 * 1024
_EXPANSION = 64
"""Images compress to a third; a file that grows by more than this is a bomb."""
_SMALL = 256 * 1024**2
_RESERVE = 256 * 1024**2
_OCI_NAME = re.compile(r"oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}")
_FOREIGN = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_DAMAGED = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError, RecursionError)


def is_compressed(head: bytes) -> bool:
    """Whether these first bytes are those of a gzip file; of a tar file: False. Raises TerminalError."""
    if head.startswith(b"\x1f\x8b"):
        return True
    if head[257:262] == b"ustar":
        return False
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise TerminalError(f"the archive is packed with {name}: unpack it, or pack it with gzip")
    raise TerminalError("not an image archive: give what `docker save` or an OCI tool wrote, also with gzip")


def archive_size(descriptor: int) -> int:
    """Bytes of an open archive, as it is. Raises TerminalError when it is none."""
    is_compressed(os.pread(descriptor, HEAD, 0))
    return os.fstat(descriptor).st_size


async def prepare_archive(descriptor: int, scratch: Path) -> str:
    """Make an open archive ready, in ``scratch`` if need be, and return its name for skopeo.

    The name may speak of the descriptor, which must then be open in skopeo. Raises TerminalError: it is
    damaged or not one image. When cancelled, the work has ended before this returns.
    """
    stop = threading.Event()
    work = asyncio.ensure_future(asyncio.to_thread(_prepare, descriptor, scratch, stop))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([work])
        raise


def _prepare(descriptor: int, scratch: Path, stop: threading.Event) -> str:
    name = Path(f"/proc/self/fd/{descriptor}")
    try:
        if is_compressed(os.pread(descriptor, HEAD, 0)):
            name = _expand(name, scratch / "archive.tar", stop)
        with name.open("rb") as file:
            if _holds_docker_image(file, stop):
                return f"docker-archive:{name}"
            return f"oci:{_unpack(file, scratch / 'oci', stop)}"
    except _DAMAGED as error:
        raise TerminalError(f"the archive is damaged ({type(error).__name__}): make it anew") from error
    except OSError as error:
        raise TransientError(f"the archive cannot be unpacked: {error.strerror}: look at {scratch.parent}") from error


def _expand(packed: Path, target: Path, stop: threading.Event) -> Path:
    limit = max(_SMALL, _EXPANSION * packed.stat().st_size)
    limit = min(limit, shutil.disk_usage(target.parent).free - _RESERVE)
    with packed.open("rb") as raw, gzip.GzipFile(fileobj=raw) as source, target.open("xb") as sink:
        while chunk := source.read(_CHUNK):
            _go_on(stop)
            limit -= len(chunk)
            if limit < 0:
                raise TerminalError("the archive expands to more than there is room for: unpack it beforehand")
            sink.write(chunk)
    return target


def _holds_docker_image(file: IO[bytes], stop: threading.Event) -> bool:
    """Whether it is a ``docker save`` archive of one image; False: an OCI archive of one. Raises otherwise."""
    documents: dict[str, Any] = {}
    for tar, member, name in _members(file, stop):
        if name in {"manifest.json", "index.json"}:
            content = tar.extractfile(member)
            documents[name] = json.loads(content.read(_LARGEST_INDEX)) if content else None
    match documents:
        case {"manifest.json": list(images)}:
            is_docker = True
        case {"index.json": {"manifests": list(images)}}:
            is_docker = False
        case _:
            raise TerminalError("the archive holds no image: neither manifest.json nor index.json is in it")
    if len(images) != 1:
        raise TerminalError(f"the archive holds {len(images)} images: save just one into it")
    return is_docker


def _unpack(file: IO[bytes], directory: Path, stop: threading.Event) -> Path:
    (directory / "blobs" / "sha256").mkdir(parents=True)
    for tar, member, name in _members(file, stop):
        content = tar.extractfile(member) if _OCI_NAME.fullmatch(name) else None
        if content:
            with (directory / name).open("wb") as sink:
                while chunk := content.read(_CHUNK):
                    _go_on(stop)
                    sink.write(chunk)
    return directory


def _members(file: IO[bytes], stop: threading.Event) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, str]]:
    """The regular files of a tar, with their names; a name that leads out of it is an attack."""
    file.seek(0)
    with tarfile.open(fileobj=_Bounded(file), mode="r:") as tar:
        for count, member in enumerate(tar):
            _go_on(stop)
            if count > _MEMBERS or member.size < 0 or member.issparse():
                raise tarfile.ReadError("no tool for images writes this")
            if member.name.startswith("/") or ".." in member.name.split("/"):
                raise TerminalError(f"the archive names a file outside of it ({member.name[:80]!r}): not imported")
            if member.isfile():
                yield tar, member, member.name.removeprefix("./")


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise InterruptedError("cancelled")


class _Bounded(io.RawIOBase):
    """A file of which no one reads much at once: ``tarfile`` takes the lengths of extended headers on trust."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _CHUNK:
            raise tarfile.ReadError("a header is far too long")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
