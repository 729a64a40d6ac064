"""Image manifests as values: size, and the choice among the platforms of a multi-arch image. No I/O.

Both families are read: Docker's schema 2 and OCI (image-spec ``manifest.md``, ``image-index.md``).
"""

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from onedock.controller.images.source import is_digest
from onedock.reconcilers.errors import TerminalError

ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_LARGEST_BLOB = 1 << 43


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system and processor in the words of image indexes."""

    architecture: str = "amd64"
    os: str = "linux"

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform."""

    digest: str
    size_bytes: int
    """Configuration and layers as they are in the registry: compressed, equal layers counted once."""


def this_platform() -> Platform:
    """The front-end's own: its nodes are taken to be of the same kind."""
    machine = platform.machine()
    return Platform(_ARCHITECTURES.get(machine, machine))


def read_manifest(body: bytes, wanted: Platform) -> Manifest | str:
    """Read a manifest; of an index, return the digest of the manifest for the wanted platform.

    Raises TerminalError: it is no manifest that an engine could run, or there is none for the platform.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise TerminalError("the registry's answer is no manifest: is this a Docker registry?") from error
    match document:
        case {"manifests": list(entries)}:
            return _choose(entries, wanted)
        case {"config": dict(config), "layers": list(layers)}:
            sizes = dict(_sized(entry) for entry in (config, *layers))
            return Manifest(digest_of(body), sum(sizes.values()))
        case {"schemaVersion": 1}:
            raise TerminalError("the image is in the outdated manifest schema 1: push it anew with a current engine")
    raise TerminalError("the manifest is of no known kind: only container images can be imported")


def digest_of(body: bytes) -> str:
    """The digest of these bytes: ``sha256:…``."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _sized(entry: Any) -> tuple[str, int]:
    match entry:
        case {"digest": str(digest), "size": int(size)} if 0 <= size <= _LARGEST_BLOB:
            return digest, size
    raise TerminalError("the manifest is damaged: a layer has no digest or size; push the image anew")


def _choose(entries: Iterable[Any], wanted: Platform) -> str:
    """Prefer an entry without variant: it is the baseline that every processor of the kind can run."""
    fitting: list[tuple[str, str]] = []
    offered: list[str] = []
    for entry in entries:
        match entry:
            case {"digest": str(digest), "platform": {"os": str(system), "architecture": str(arch)} as kind}:
                offered.append(str(Platform(arch, system)))
                if (system, arch) == (wanted.os, wanted.architecture):
                    fitting.append((str(kind.get("variant", "")), digest))
            case {"digest": str(digest)}:  # an index of one image need not say its platform
                fitting.append(("~", digest))
    if not fitting:
        raise TerminalError(
            f"no image for {wanted}: there is {', '.join(sorted(set(offered))[:8]) or 'none at all'}; "
            "choose another image or tag"
        )
    digest = min(fitting)[1]
    if not is_digest(digest):  # it becomes part of an address, and the answer is held against it
        raise TerminalError("the index of the image is damaged: a digest is none; push the image anew")
    return digest
