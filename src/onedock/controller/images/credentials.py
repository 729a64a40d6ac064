"""Credentials of registries, from a file in the format of ``~/.docker/config.json``.

Only ``auths`` with a password is read: helpers are programs that ask a person's key ring, and the front-end
has none. skopeo gets the same file by ``--authfile``.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from onedock.controller.images.source import DOCKER_HUB
from onedock.reconcilers.errors import TerminalError


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password for one registry or a part of it."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_credentials(auth_file: Path | None, registry: str, repository: str) -> Credentials | None:
    """The most specific credentials for this repository; None when the file has none.

    Raises TerminalError when the file cannot be used.
    """
    if auth_file is None:
        return None
    try:
        auths = json.loads(auth_file.read_bytes()).get("auths", {})
        for key in _keys(registry, repository):
            if encoded := auths.get(key, {}).get("auth"):
                user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
                return Credentials(user, password)
    except OSError as error:
        raise TerminalError(f"{auth_file}: {error.strerror}: correct [registry] auth_file") from error
    except (ValueError, AttributeError, TypeError, binascii.Error) as error:
        raise TerminalError(
            f"{auth_file}: not like ~/.docker/config.json: write it with `skopeo login --authfile`"
        ) from error
    return None


def _keys(registry: str, repository: str) -> Iterator[str]:
    parts = repository.split("/")
    for length in range(len(parts), 0, -1):
        yield "/".join((registry, *parts[:length]))
    for name in (registry, "index.docker.io") if registry == DOCKER_HUB else (registry,):
        yield name
        for suffix in ("", "/", "/v1/", "/v2/"):
            yield f"https://{name}{suffix}"
