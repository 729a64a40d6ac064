"""The datastore driver's actions: register, measure, copy and delete images in ONEDock's registry.

Called with what OpenNebula's ``one_datastore`` gives to its scripts (protocol reference 4.1, 4.2); the answer is
what the script prints. Every action may be repeated, and may be killed at any moment: a copy becomes visible in
the registry by its manifest, which comes last; layers without one are left to the registry's collector.
"""

import asyncio
import base64
import binascii
import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import aiohttp
import structlog

from onedock.config.settings import Settings
from onedock.controller.images import skopeo
from onedock.controller.images.archive import archive_size, prepare_archive
from onedock.controller.images.download import download, remote_size
from onedock.controller.images.manifest import this_platform
from onedock.controller.images.paths import DirectoryRules, open_archive
from onedock.controller.images.registry import Registry
from onedock.controller.images.scratch import scratch_directory
from onedock.controller.images.skopeo import Place
from onedock.controller.images.source import (
    SCHEME,
    TAG,
    LocalArchive,
    RegistryImage,
    RemoteArchive,
    Stored,
    image_repository,
    parse_path,
    stored_reference,
)
from onedock.controller.intents import ScriptResult
from onedock.controller.xml import parse_xml
from onedock.reconcilers.errors import NotFoundError, OnedockError, TerminalError, TransientError

_log = structlog.get_logger(__name__)
_MIB = 1024**2
_STAT_S = 60.0
"""oned waits 90 s for a STAT while the user's call blocks (protocol reference 4.1)."""
_COPY_S = 4 * 3600.0
_LARGEST_REQUEST = 32 * _MIB
_OS_IMAGE = "0"
_NOT_YET = {
    **dict.fromkeys(("snap_delete", "snap_revert", "snap_flatten"), "disk snapshots"),
    **dict.fromkeys(("backup", "backup_cancel", "ls", "restore", "increment_flatten"), "backups"),
    "export": "exports to a marketplace",
}


class _Request(NamedTuple):
    image: Element
    rules: DirectoryRules

    @property
    def image_id(self) -> int:
        text = _text(self.image, "ID")
        if not text.isdecimal():
            raise TerminalError(f"the request has no image id but {text[:20]!r}: is oned of another version?")
        return int(text)

    @property
    def size_mb(self) -> int:
        """What was accounted, or for STAT: what the user says. 0: nothing was said."""
        text = _text(self.image, "SIZE")
        return int(text) if text.isdecimal() else 0


class Datastore:
    """The driver ``onedock`` of image datastores. Has no state but its settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.registry
        self._data_dir = settings.registry.data_dir or settings.controller.state_dir
        self._platform = this_platform()

    async def run(self, action: str, argv: Sequence[str], stdin: str) -> ScriptResult:
        """Do one action. Every failure is a result: one line on stderr, which OpenNebula shows to the user.

        Args:
            action: The script's name: ``stat``, ``cp``, …
            argv: Its arguments; the request on ``stdin`` says all they say.
            stdin: Base64 of ``<DS_DRIVER_ACTION_DATA>``.
        """
        log = _log.bind(action=action, argv=list(argv))
        started = time.monotonic()
        try:
            stdout = await self._answer(action, stdin)
        except (OnedockError, OSError) as error:
            reason = " ".join(_reason(error).split())
            log.warning("datastore action failed", reason=reason)
            return ScriptResult(1, stderr=f"{reason}\n")
        log.info("datastore action done", stdout=stdout, seconds=round(time.monotonic() - started, 3))
        return ScriptResult(0, stdout=f"{stdout}\n" if stdout else "")

    async def _answer(self, action: str, stdin: str) -> str:
        match action:
            case "stat":
                return await self._stat(_read_request(stdin))
            case "cp":
                return await self._cp(_read_request(stdin))
            case "clone":
                return await self._clone(_read_request(stdin))
            case "rm":
                return await self._rm(_read_request(stdin))
            case "monitor":
                return self._monitor()
            case "mkfs":
                return _mkfs(_read_request(stdin))
            case _ if action in _NOT_YET:
                raise TerminalError(f"not supported yet: {_NOT_YET[action]} ({action}) of container images")
        raise TerminalError(f"unknown datastore action {action[:40]!r}: update ONEDock, or correct the script")

    async def _stat(self, request: _Request) -> str:
        try:
            async with asyncio.timeout(_STAT_S):
                size = await self._size(request)
        except TimeoutError as error:
            raise TransientError(
                f"the size of {_text(request.image, 'PATH')[:80]!r} took more than {_STAT_S:.0f} s: "
                "check registry and network"
            ) from error
        return str(max(1, math.ceil(size / _MIB)))

    async def _size(self, request: _Request) -> int:
        """Bytes: of the image as its registry stores it, or of the archive as it is."""
        async with _session() as session:
            match self._source(request):
                case RegistryImage() as image:
                    registry = self._registry(session, image.registry, image.repository)
                    return (await registry.manifest(image.version, self._platform)).size_bytes
                case LocalArchive(path):
                    return await asyncio.to_thread(_local_size, path, request.rules)
                case RemoteArchive() as archive:
                    size = await remote_size(session, archive)
                    if size is None and not request.size_mb:
                        raise TerminalError(f"{archive}: its server does not tell the size: give SIZE in MB")
                    return request.size_mb * _MIB if size is None else size

    async def _cp(self, request: _Request) -> str:
        if _text(request.image, "TYPE") != _OS_IMAGE:
            raise TerminalError("container images have TYPE=OS: put other images into another datastore")
        source = self._source(request)
        async with scratch_directory(self._settings.scratch_dir) as scratch, _session() as session:
            match source:
                case RegistryImage(name, repository):
                    registry = self._registry(session, name, repository)
                    manifest = await registry.manifest(source.version, self._platform)
                    pinned = Place(f"{SCHEME}{name}/{repository}@{manifest.digest}", self._is_plain(name))
                    return await self._import(request, pinned, scratch, keep_digest=True)
                case RemoteArchive():
                    path = scratch / "download"
                    await download(session, source, path, limit_bytes=(request.size_mb + 1) * _MIB)
                    descriptor = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
                case LocalArchive(name):
                    descriptor = await asyncio.to_thread(open_archive, name, request.rules)
            try:
                place = Place(await prepare_archive(descriptor, scratch))
                return await self._import(request, place, scratch, descriptors=[descriptor])
            finally:
                os.close(descriptor)

    async def _clone(self, request: _Request) -> str:
        """PATH is the SOURCE of the original (recorded from OpenNebula 7.4)."""
        original = stored_reference(_text(request.image, "PATH"))
        self._check_ours(original, f"{self._settings.repository}/")
        place = Place(SCHEME + original.pullable, self._is_plain(original.registry))
        async with scratch_directory(self._settings.scratch_dir) as scratch:
            return await self._import(request, place, scratch, keep_digest=True)

    async def _rm(self, request: _Request) -> str:
        repository = image_repository(self._settings.repository, request.image_id)
        async with _session() as session:
            registry = self._registry(session, self._settings.address, repository)
            if source := _text(request.image, "SOURCE"):
                stored = stored_reference(source)
                self._check_ours(stored, repository)
                await registry.delete(stored.digest)
                return ""
            # An import whose answer was lost has no SOURCE, but may have left its tag.
            try:
                manifest = await registry.manifest(TAG, self._platform)
            except NotFoundError:
                return ""
            await registry.delete(manifest.digest)
            return ""

    def _monitor(self) -> str:
        try:
            usage = shutil.disk_usage(self._data_dir)
        except OSError as error:
            raise TerminalError(
                f"{self._data_dir}: {error.strerror}: correct [registry] data_dir, whose size is reported"
            ) from error
        total, free, used = (value // _MIB for value in (usage.total, usage.free, usage.used))
        return f"TOTAL_MB={total}\nFREE_MB={free}\nUSED_MB={used}"

    async def _import(
        self,
        request: _Request,
        source: Place,
        scratch: Path,
        *,
        keep_digest: bool = False,
        descriptors: Sequence[int] = (),
    ) -> str:
        """Copy into the image's own repository; returns ``SOURCE FORMAT``."""
        address = self._settings.address
        repository = image_repository(self._settings.repository, request.image_id)
        digest = await skopeo.copy(
            source,
            Place(f"{SCHEME}{address}/{repository}:{TAG}", self._is_plain(address)),
            scratch=scratch,
            auth_file=self._settings.auth_file,
            platform=self._platform,
            deadline_s=_COPY_S,
            keep_digest=keep_digest,
            descriptors=descriptors,
        )
        return f"{stored_reference(f'{address}/{repository}@{digest}').source} raw"

    def _source(self, request: _Request) -> RegistryImage | LocalArchive | RemoteArchive:
        return parse_path(_text(request.image, "PATH"), self._settings.default_source)

    def _registry(self, session: aiohttp.ClientSession, name: str, repository: str) -> Registry:
        auth_file = self._settings.auth_file
        return Registry(session, name, repository, plain=self._is_plain(name), auth_file=auth_file)

    def _is_plain(self, registry: str) -> bool:
        own = registry == self._settings.address and not self._settings.tls
        return own or registry in self._settings.insecure_sources

    def _check_ours(self, stored: Stored, repository: str) -> None:
        """Whether it is in our registry, in this repository (or below it, when it ends in a slash)."""
        below = repository.endswith("/") and stored.repository.startswith(repository)
        if stored.registry != self._settings.address or not (below or stored.repository == repository):
            raise TerminalError(
                f"{stored.registry}/{stored.repository} is not {self._settings.address}/{repository}: it is left "
                "alone; correct [registry] address and repository, or SOURCE"
            )


def _reason(error: OnedockError | OSError) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'a temporary file'}: {error.strerror}: look at [registry] scratch_dir"
    return str(error)


def _mkfs(request: _Request) -> str:
    if _text(request.image, "FORMAT") == "save_as":
        raise TerminalError("not supported yet: saving the disk of a container as an image")
    raise TerminalError("empty data blocks belong in another datastore: this one holds container images, give PATH")


def _local_size(path: str, rules: DirectoryRules) -> int:
    descriptor = open_archive(path, rules)
    try:
        return archive_size(descriptor)
    finally:
        os.close(descriptor)


def _session() -> aiohttp.ClientSession:
    """Proxies are those of the environment, as for skopeo. Nothing is packed under way: bodies are counted."""
    return aiohttp.ClientSession(trust_env=True, auto_decompress=False, headers={"Accept-Encoding": "identity"})


def _read_request(stdin: str) -> _Request:
    if len(stdin) > _LARGEST_REQUEST:
        raise TerminalError("the datastore request is too large: is oned of another version?")
    try:
        text = base64.b64decode("".join(stdin.split()), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise TerminalError("the datastore request is not base64: run the script by one_datastore") from error
    root = parse_xml(text)
    template = _only(_only(root, "DATASTORE"), "TEMPLATE")
    rules = DirectoryRules.from_template(_text(template, "SAFE_DIRS"), _text(template, "RESTRICTED_DIRS"))
    return _Request(_only(root, "IMAGE"), rules)


def _only(parent: Element, name: str) -> Element:
    """The child of this name.

    STAT carries PATH as it is, not as CDATA: a second element can only come from there.
    """
    match parent.findall(name):
        case [element]:
            return element
        case found:
            raise TerminalError(f"the datastore request has {len(found)} elements {name}: PATH must hold no XML")


def _text(parent: Element, name: str) -> str:
    return (_only(parent, name).text or "") if parent.findall(name) else ""
