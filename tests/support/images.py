"""Small images made without any registry: one layer with a static busybox, and a configuration as wanted.

``load`` puts one into an engine; ``write_docker_archive`` and ``write_oci_archive`` make the files that
``docker save`` and ``skopeo copy … oci-archive:`` would make.
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.engine import PrivateEngine

BUSYBOX = Path("/bin/busybox")
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image holds. Paths have no leading slash."""

    cmd: tuple[str, ...] | None = ("sleep", "86400")
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin",)
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    shell: bool = True
    """False: /bin holds nothing but ``sleep``."""
    files: tuple[tuple[str, bytes], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """(path, target) of symlinks; they come first, so that a directory of the image may be one."""


IGNORES_TERM = Image()
"""A ``sleep`` that, being pid 1, ignores SIGTERM."""
ENDS_ON_TERM = Image(cmd=("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"))
SHELL_COMMAND = Image(cmd=("sh",))
"""Its command ends at once when it finds no standard input."""
NO_SHELL = Image(shell=False)
ETC_ELSEWHERE = Image(links=(("etc", "/tmp/elsewhere"),))
"""/etc is a symlink: whoever writes /etc/hosts by path from outside writes somewhere else."""
HUGE_ENVIRONMENT = Image(env=tuple(f"VARIABLE_{index}={'x' * 1000}" for index in range(100)))
WORKDIR_IN_PROC = Image(working_dir="/proc/self/fd/8")


def load(engine: PrivateEngine, image: Image = IGNORES_TERM, *, tag: str = "onedock-test:busybox") -> str:
    """Load an image into an engine under ``tag``; returns its id, ``sha256:…``, which is a reference."""
    engine.api("POST", "/images/load?quiet=1", _docker_archive(image, tag))
    image_id: str = engine.api("GET", f"/images/{tag}/json")["Id"]
    return image_id


def write_docker_archive(path: Path, image: Image = IGNORES_TERM, *, tag: str = "onedock-test:busybox") -> None:
    """Write what ``docker save <tag>`` writes."""
    path.write_bytes(_docker_archive(image, tag))


def write_oci_archive(path: Path, image: Image = IGNORES_TERM, *, tag: str = "busybox") -> None:
    """Write an OCI image layout as one tar file, its manifest named ``tag``."""
    layer = _layer(image)
    config = _json(_config(image, layer))
    packed = gzip.compress(layer, compresslevel=1, mtime=0)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
        }
    )
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
    blobs = [(f"blobs/sha256/{_sha256(blob)}", blob) for blob in (packed, config, manifest)]
    index = _json({"schemaVersion": 2, "manifests": [entry]})
    path.write_bytes(_tar([("oci-layout", _json({"imageLayoutVersion": "1.0.0"})), ("index.json", index), *blobs]))


def _docker_archive(image: Image, tag: str) -> bytes:
    layer = _layer(image)
    config = _json(_config(image, layer))
    name = f"{_sha256(config)}.json"
    manifest = _json([{"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]}])
    return _tar([(name, config), ("layer.tar", layer), ("manifest.json", manifest)])


def _config(image: Image, layer: bytes) -> dict[str, Any]:
    return {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {
            "Cmd": image.cmd,
            "Entrypoint": image.entrypoint,
            "Env": image.env,
            "WorkingDir": image.working_dir,
            "User": image.user,
            "StopSignal": image.stop_signal,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}"]},
        "history": [{"created_by": "onedock tests"}],
    }


def _layer(image: Image) -> bytes:
    files = list(image.files)
    links = list(image.links)
    if image.shell:
        files.append(("bin/busybox", BUSYBOX.read_bytes()))
        links += [(f"bin/{applet}", "busybox") for applet in _applets()]
    else:
        files.append(("bin/sleep", BUSYBOX.read_bytes()))
    return _tar(files, links)


@cache
def _applets() -> tuple[str, ...]:
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    return tuple(name for name in listed if name != "busybox")


def _tar(files: Iterable[tuple[str, bytes]], links: Iterable[tuple[str, str]] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, target in links:
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        for path, content in files:
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{_sha256(blob)}", "size": len(blob)}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()
