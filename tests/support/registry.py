"""A Docker registry of the tests' own: a ``docker-registry`` process on a free port of 127.0.0.1."""

import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.support import processes
from tests.support.ports import free_ports
from tests.support.relay import Relay

NEEDED = ("docker-registry", "skopeo")
CREDENTIALS = "onedock:open sesame"
# bcrypt, the only hash that the registry understands
_HTPASSWD = "onedock:$2b$04$WTgqpZ8MCceWhxwctqguoOqCH163RdmgDinzsKMNy9/3qHO5xla6.\n"


def why_not() -> str | None:
    """Why no registry can be started on this machine, or None."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    return f"a private registry needs {', '.join(missing)} in PATH" if missing else None


class PrivateRegistry:
    """One registry with deletion enabled. ``with PrivateRegistry() as registry:`` starts and removes it.

    Args:
        reachable_in: Network namespaces in which the registry has the same address as here.
        protected: Whether ``CREDENTIALS`` are demanded.
    """

    def __init__(self, *, reachable_in: tuple[str, ...] = (), protected: bool = False) -> None:
        self._reachable_in = reachable_in
        self._protected = protected
        self._process: subprocess.Popen[bytes] | None = None
        self._relays: list[Relay] = []

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{processes.RUN}-registry-", dir="/var/tmp"))
        self.storage = self.directory / "storage"
        self.config = self.directory / "config.yml"
        [self.port] = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        try:
            self._write_configuration()
            self.start()
            self._relays = [Relay(netns=netns, port=self.port) for netns in self._reachable_in]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for relay in self._relays:
            relay.close()
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.directory)

    def start(self) -> None:
        """Start the process (again), with what is stored, and wait until it answers."""
        with (self.directory / "registry.log").open("ab") as log:
            argv = ["docker-registry", "serve", str(self.config)]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        processes.wait_until(self._answers, within=20, what=f"the registry answers on {self.address}")

    def stop(self) -> None:
        """End the process; what is stored stays."""
        assert self._process is not None
        processes.end(self._process)

    def push(self, archive: Path, name: str, *, form: str = "docker-archive") -> str:
        """Push an archive as ``<address>/<name>`` and return the reference pinned by digest.

        Args:
            archive: A file written by ``tests.support.images``.
            name: Repository, with or without a tag: ``onedock/image-7``.
            form: ``docker-archive`` or ``oci-archive``.
        """
        digest = self.directory / "digest"
        argv = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]
        argv += ["--digestfile", str(digest)]
        if self._protected:
            argv += ["--dest-creds", CREDENTIALS]
        argv += [f"{form}:{archive}", f"docker://{self.address}/{name}"]
        subprocess.run(argv, check=True, capture_output=True)
        repository = name.rpartition(":")[0] or name
        return f"{self.address}/{repository}@{digest.read_text().strip()}"

    def _write_configuration(self) -> None:
        configuration = {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}, "delete": {"enabled": True}},
            "http": {"addr": self.address},
        }
        if self._protected:
            htpasswd = self.directory / "htpasswd"
            htpasswd.write_text(_HTPASSWD)
            configuration["auth"] = {"htpasswd": {"realm": "onedock tests", "path": str(htpasswd)}}
        self.config.write_text(json.dumps(configuration))

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = (self.directory / "registry.log").read_text(errors="replace")
            raise RuntimeError(f"the registry ended with status {self._process.returncode}: {log[-2000:]}")
        try:
            urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            return False
        return True
