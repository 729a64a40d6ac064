"""Copying of images by ``skopeo``: argument vector only, credentials by file, killed with all its children.

Nothing from outside is ever an option: every name has been parsed, and begins with the name of its transport.
"""

import asyncio
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onedock.controller.images.manifest import Platform
from onedock.reconcilers.errors import OnedockError, TerminalError, TransientError

_MESSAGE = re.compile(r'msg="((?:[^"\\]|\\.)*)"')
_CAUSES: tuple[tuple[str, type[OnedockError], str], ...] = (
    ("manifest unknown", TerminalError, "not found: correct the name or the tag"),
    ("name unknown", TerminalError, "not found: correct the name or the tag"),
    (
        "unauthorized",
        TerminalError,
        "access denied: add credentials to [registry] auth_file",
    ),
    ("authentication required", TerminalError, "access denied: add credentials to [registry] auth_file"),
    (
        "denied",
        TerminalError,
        "access denied: is the name right? [registry] auth_file may need others",
    ),
    (
        "connection refused",
        TransientError,
        "the registry refuses connections: start it or correct its address",
    ),
    ("no such host", TransientError, "no such host: correct the name, or the front-end's DNS"),
    ("gave HTTP response to HTTPS", TerminalError, "the registry does not speak TLS: see [registry] tls"),
    ("x509:", TerminalError, "its TLS certificate is not trusted: put the CA into /etc/docker/certs.d"),
    (
        "no space left",
        TransientError,
        "no space left: free some in the registry or [registry] scratch_dir",
    ),
    ("i/o timeout", TransientError, "the registry does not answer in time: check it and the network"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """One side of a copy, in skopeo's notation: ``docker://…``, ``docker-archive:…`` or ``oci:…``."""

    name: str
    plain: bool = False
    """A registry that speaks plain HTTP."""


async def copy(
    source: Place,
    target: Place,
    *,
    scratch: Path,
    auth_file: Path | None,
    platform: Platform,
    deadline_s: float,
    keep_digest: bool = False,
    descriptors: Sequence[int] = (),
) -> str:
    """Copy one image into a registry and return the digest of its manifest there.

    ``scratch`` is a private directory: skopeo's temporary files go there, and vanish with it. ``keep_digest``
    forbids any conversion. ``descriptors`` stay open in skopeo, for sources named ``/proc/self/fd/N``.
    Raises TerminalError or TransientError.
    """
    digest_file = scratch / "digest"
    await _run(
        [
            "skopeo",
            "--override-os",
            platform.os,
            "--override-arch",
            platform.architecture,
            "copy",
            "--quiet",
            "--remove-signatures",
            *(["--preserve-digests"] if keep_digest else []),
            *(["--authfile", str(auth_file)] if auth_file else ["--src-no-creds", "--dest-no-creds"]),
            f"--src-tls-verify={str(not source.plain).lower()}",
            f"--dest-tls-verify={str(not target.plain).lower()}",
            "--digestfile",
            str(digest_file),
            source.name,
            target.name,
        ],
        scratch=scratch,
        deadline_s=deadline_s,
        descriptors=descriptors,
    )
    return digest_file.read_text().strip()


async def _run(arguments: Sequence[str], *, scratch: Path, deadline_s: float, descriptors: Sequence[int]) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(scratch)},
            pass_fds=tuple(descriptors),
            process_group=0,
        )
    except FileNotFoundError as error:
        raise TerminalError("skopeo is not installed: install it on the front-end") from error
    try:
        async with asyncio.timeout(deadline_s):
            _, stderr = await process.communicate()
    except TimeoutError as error:
        raise TransientError(
            f"copying the image took more than {deadline_s:.0f} s: check registries and network"
        ) from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        raise explain(stderr.decode(errors="replace"))


def explain(stderr: str) -> OnedockError:
    """Translate skopeo's last words: cause first, remedy second, its own text for the rest."""
    messages = _MESSAGE.findall(stderr) or stderr.strip().splitlines()[-1:] or ["no reason given"]
    text = re.sub(r"\\(.)", r"\1", messages[-1])
    for sign, kind, meaning in _CAUSES:
        if sign in text:
            return kind(f"{meaning} (skopeo: {text[:600]})")
    return TerminalError(f"the image cannot be copied: {text[:600]}")
