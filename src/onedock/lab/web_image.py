"""A Docker image made without any network: a static busybox that serves one web page."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from onedock.lab.errors import LabError

_BUSYBOX = Path("/bin/busybox")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SERVE = r"""
starts=$(($(cat /starts 2>/dev/null || echo 0) + 1))
echo $starts > /starts
mkdir -p /www
echo "Hello from VM $(hostname): started $starts time(s), root disk kept." > /www/index.html
exec httpd -f -p 80 -h /www
"""


def archive() -> bytes:
    """What ``docker save`` would write of it."""
    layer = _tar({"bin/busybox": _BUSYBOX.read_bytes()}, links=_applets())
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {
                "Cmd": ["/bin/sh", "-c", _SERVE],
                "Env": ["PATH=/bin"],
                # As first process of its namespace httpd would ignore a polite SIGTERM.
                "StopSignal": "SIGKILL",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": ["web:1"], "Layers": ["layer.tar"]}]).encode()
    return _tar({name: config, "layer.tar": layer, "manifest.json": manifest})


def push(registry: str, name: str) -> None:
    """Make it and push it into the registry as ``name``. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="onedock-lab-", dir="/var/tmp") as directory:
        file = Path(directory, "web.tar")
        file.write_bytes(archive())
        argv = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]
        argv += [f"docker-archive:{file}", f"docker://{registry}/{name}"]
        try:
            subprocess.run(argv, check=True, capture_output=True, text=True, env=os.environ | {"TMPDIR": directory})
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or str(error)
            raise LabError(f"the web image cannot be pushed to {registry}: {reason.strip()[:400]}") from error


def _applets() -> list[str]:
    listed = subprocess.run([_BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    return [f"bin/{name}" for name in listed if name != "busybox"]


def _tar(files: dict[str, bytes], links: list[str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        for path in links or ():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()
