"""The guest's images are made beside the tests that need none, by a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.support.guest.images import Images, prepare

_PROJECT = Path(__file__).resolve().parents[3]


class Preparation:
    """Begins when made, with the processor time that nobody else wants; must be closed."""

    def __init__(self) -> None:
        # Without a name: however a test run ends, nothing of it is left.
        self._said = tempfile.TemporaryFile("w+", dir="/var/tmp")  # noqa: SIM115 - closed in close
        # What it mounts ends with it.
        argv = ["setpriv", "--pdeathsig", "TERM", "--", "unshare", "--mount", "chrt", "--idle", "0"]
        argv += [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(
            argv, cwd=_PROJECT, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said, start_new_session=True
        )

    def ready(self) -> bool:
        """Whether ``images`` returns at once."""
        return self._process.poll() is not None

    def images(self) -> Images:
        """Wait for them. RuntimeError with what was said when they cannot be made."""
        self._process.wait()
        self._said.seek(0)
        said = self._said.read()
        if self._process.returncode != 0:
            raise RuntimeError(f"the guest's images cannot be made:\n{said[-4000:]}")
        return Images(**{name: Path(path) for name, path in json.loads(said.splitlines()[-1]).items()})

    def close(self) -> None:
        """End it, and wait until it has removed what is not finished. A second time does nothing."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()
        self._said.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended early"))
    print(json.dumps(asdict(prepare(print)), default=str))
