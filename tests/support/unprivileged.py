"""A cloud whose controller runs as ``nobody``, with no capability and only the sockets' rights."""

import os
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from tests.support.cloud import Cloud, Daemon
from tests.support.engine import PrivateEngine
from tests.support.registry import PrivateRegistry

import onedock

USER, GROUP = "nobody", "nogroup"
DROP = ["setpriv", "--reuid", USER, "--regid", GROUP, "--clear-groups", "--no-new-privs"]
DROP += ["--inh-caps=-all", "--bounding-set=-all"]
PATH = os.pathsep.join([str(Path(onedock.__file__).parents[1]), sysconfig.get_path("purelib")])


@cache
def interpreter() -> tuple[str, ...]:
    """A Python that USER can run ONEDock with; empty when there is none: root's own may lie in root's home."""
    for python in (sys.executable, "/usr/bin/python3"):
        command = (*DROP, "env", f"PYTHONPATH={PATH}", python)
        probe = subprocess.run([*command, "-c", "import onedock.controller.app"], check=False, capture_output=True)
        if probe.returncode == 0:
            return command
    return ()


class UnprivilegedCloud(Cloud):
    """The front-end's directory belongs to USER, the sockets of engine and agent may be used by GROUP."""

    def __init__(self, engine: PrivateEngine, registry: PrivateRegistry, **options: Any) -> None:
        with patch.dict(os.environ, HOME="/var/tmp", ONEDOCK_AGENT__SOCKET_GROUP=GROUP):
            super().__init__(engine, registry, **options)
            command = [*interpreter(), "-m", "onedock.controller"]
            self.controller = Daemon("controller", command, directory=self.directory, ready=self.api)

    async def __aenter__(self) -> Self:
        shutil.chown(self.directory, USER, GROUP)
        shutil.chown(self.engine.socket, group=GROUP)
        self.engine.directory.chmod(0o711)
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        shutil.chown(self.engine.socket, group="root")
        self.engine.directory.chmod(0o700)
