"""Names of images, as values: what a PATH asks for, and what is kept as SOURCE. No I/O.

The grammar is that of the OCI distribution specification; how a name without a registry is read is Docker's
convention: the first component is a registry when it contains a dot or a colon, or is ``localhost``.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from onedock.reconcilers.errors import TerminalError

SCHEME = "docker://"
DOCKER_HUB = "docker.io"
TAG = "latest"
"""The tag under which an image of OpenNebula is pushed: untagged manifests may be collected."""

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST_NAME = 255
_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class RegistryImage:
    """An image in a registry, by tag or, when there is one, by digest."""

    registry: str
    """host[:port], ``docker.io`` for Docker Hub."""
    repository: str
    tag: str = TAG
    digest: str | None = None

    @property
    def version(self) -> str:
        """What follows the repository in the registry's API: the digest, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        separator = "@" if self.digest else ":"
        return f"{self.registry}/{self.repository}{separator}{self.version}"


@dataclass(frozen=True, slots=True)
class LocalArchive:
    """A ``docker save`` or OCI archive on the front-end."""

    path: str
    """Absolute; not yet checked against the datastore's directories."""


@dataclass(frozen=True, slots=True)
class RemoteArchive:
    """A ``docker save`` or OCI archive that is fetched by http(s)."""

    url: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


ImageSource = RegistryImage | LocalArchive | RemoteArchive


@dataclass(frozen=True, slots=True)
class Stored:
    """An image in ONEDock's own registry, pinned: what SOURCE of OpenNebula says."""

    registry: str
    repository: str
    digest: str

    @property
    def pullable(self) -> str:
        """The reference that an engine can pull: ``registry:5000/onedock/image-7@sha256:…``."""
        return f"{self.registry}/{self.repository}@{self.digest}"

    @property
    def source(self) -> str:
        """The text kept in OpenNebula: no blank, and a colon, so that transfer scripts get it as it is."""
        return SCHEME + self.pullable


def image_repository(base: str, image_id: int) -> str:
    """The repository of one OpenNebula image below the configured first part: ``onedock/image-7``."""
    return f"{base}/image-{image_id}"


def parse_path(path: str, default_registry: str = DOCKER_HUB) -> ImageSource:
    """Read a PATH. Raises TerminalError with the cause first.

    The stock command line makes ``/cwd/docker://x`` of ``docker://x`` (protocol reference 4.3);
    both are read.
    """
    if not path:
        raise TerminalError("no PATH: give docker://NAME, the path of an archive, or an http(s) URL")
    if len(path) > _LONGEST_PATH or any(not character.isprintable() for character in path):
        raise TerminalError("PATH has control characters or is too long: give docker://NAME, a path or a URL")
    if path.startswith(("http://", "https://")):
        return _remote_archive(path)
    before, scheme, name = path.partition(SCHEME)
    if scheme and (not before or (before.startswith("/") and before.endswith("/"))):
        return parse_name(name, default_registry)
    if path.startswith("/"):
        return LocalArchive(path)
    raise TerminalError(
        f"PATH {path[:60]!r} is of no known kind: give docker://NAME, the absolute path of an archive, "
        "or an http(s) URL"
    )


def parse_name(name: str, default_registry: str = DOCKER_HUB) -> RegistryImage:
    """Read ``[registry/]name[:tag][@digest]``. Raises TerminalError naming the part that is wrong."""
    rest, at, digest = name.partition("@")
    if at and not is_digest(digest):
        raise TerminalError(f"{digest[:80]!r} is no digest: write NAME@sha256: and 64 hexadecimal digits")
    first, slash, others = rest.partition("/")
    explicit = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, rest = (first, others) if explicit else (default_registry, rest)
    repository, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise TerminalError(f"{tag[:80]!r} is no tag: letters, digits, '_', '.' and '-', at most 128")
    if registry in {"index.docker.io", "registry-1.docker.io"}:
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not _is_registry(registry):
        raise TerminalError(f"{registry[:80]!r} is no registry: write HOST or HOST:PORT")
    if not _is_repository(repository):
        raise TerminalError(
            f"{repository[:80]!r} is no image name: lower-case letters and digits, parts separated by '/', "
            "words by '.', '_' or '-'"
        )
    return RegistryImage(registry, repository, tag or TAG, digest or None)


def stored_reference(source: str) -> Stored:
    """Read a SOURCE, with or without ``docker://``. Raises TerminalError: it is not one of ONEDock's."""
    name, _, digest = source.removeprefix(SCHEME).partition("@")
    registry, _, repository = name.partition("/")
    if not (is_digest(digest) and _is_registry(registry) and _is_repository(repository)):
        raise TerminalError(
            f"SOURCE {source[:80]!r} is no image of ONEDock: it must be docker://REGISTRY/NAME@sha256:…; "
            "register the image anew with PATH"
        )
    return Stored(registry, repository, digest)


def _remote_archive(url: str) -> RemoteArchive:
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0 and " " not in url
    except ValueError:
        valid = False
    if not valid:
        raise TerminalError(f"{url[:80]!r} is no URL of an archive: write http(s)://HOST[:PORT]/PATH")
    return RemoteArchive(url)


def is_digest(text: str) -> bool:
    """Whether it is ``sha256:`` and 64 hexadecimal digits, the only kind that is used."""
    return _DIGEST.fullmatch(text) is not None


def _is_registry(text: str) -> bool:
    match = _REGISTRY.fullmatch(text) if len(text) <= _LONGEST_NAME else None
    return match is not None and (not match["port"] or 0 < int(match["port"]) < 65536)


def _is_repository(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and _REPOSITORY.fullmatch(text) is not None
