"""What a pull needs beside the call itself: credentials, and the sum of the progress of all layers."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError

from onedock.reconcilers.errors import TerminalError, TransientError


def registry_credentials(auth_file: Path, image: str) -> dict[str, str] | None:
    """Credentials for the registry of an image, for the engine's ``X-Registry-Auth``; None: there are none.

    The file has the format of ``~/.docker/config.json``. It is read at each pull, so that it can be renewed.

    Raises:
        TerminalError: the file cannot be read or understood.
    """
    registry = image.partition("/")[0]
    try:
        entry = json.loads(auth_file.read_text())["auths"].get(registry)
        return _credentials(entry) if entry else None
    except OSError as error:
        raise TerminalError(f"the registry credentials cannot be read: {auth_file}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError):
        # Without the cause: it may quote a secret.
        raise TerminalError(
            f"the registry credentials for {registry} are not understood: {auth_file}; log in again"
        ) from None


def _credentials(entry: Mapping[str, Any]) -> dict[str, str]:
    if token := entry.get("identitytoken"):
        return {"identitytoken": str(token)}
    if "auth" in entry:
        user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        return {"username": user, "password": password}
    return {"username": str(entry["username"]), "password": str(entry["password"])}


class Detail(BaseModel):
    """How far one layer is, in bytes."""

    current: int = 0
    total: int = 0


class PullMessage(BaseModel):
    """One message of a pull's stream, as far as it is used."""

    id: str = ""
    status: str = ""
    error: str | None = None
    detail: Detail = Field(default=Detail(), alias="progressDetail")

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Raises TransientError when the line makes no sense."""
        try:
            return cls.model_validate_json(line)
        except ValidationError as error:
            raise TransientError(f"the engine's answer to a pull is not understood: {line[:100]!r}") from error


class PullProgress:
    """Sums the progress of the layers of one image, in bytes of the compressed layers."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def add(self, message: PullMessage) -> tuple[int, int] | None:
        """Take in one message; returns (current, total) over all layers when that has changed."""
        if message.status == "Downloading":
            self._layers[message.id] = (message.detail.current, message.detail.total)
        elif message.status == "Download complete" and message.id in self._layers:
            total = self._layers[message.id][1]
            self._layers[message.id] = (total, total)
        else:
            return None
        return sum(now for now, _ in self._layers.values()), sum(total for _, total in self._layers.values())
