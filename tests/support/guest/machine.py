"""A machine in software: boots a kernel with all features, runs given tests there, tells what became of them."""

import json
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support import processes
from tests.support.guest.images import Images

_PROJECT = Path(__file__).resolve().parents[3]
_SENT = ("pyproject.toml", "src", "tests")
_DEADLINE_S = 480
"""For everything that one guest does. Without hardware's help it runs some ten times slower than this machine."""

_COMMAND_LINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off"
    " systemd.unit=multi-user.target systemd.wants=onedock-tests.service systemd.mask=serial-getty@ttyS0.service"
    " systemd.mask=getty@tty1.service systemd.mask=systemd-random-seed.service systemd.mask=systemd-binfmt.service"
)


class Guest:
    """Boots when made, and must be closed; ``messages`` are those of ``reporter``, in order.

    Args:
        images: What it boots from.
        items: Node ids of pytest.
        init: Its first process: ``script``, up in three seconds, or ``systemd``, in ten.
    """

    def __init__(self, images: Images, items: Sequence[str], *, init: str) -> None:
        self._images = images
        self._init = init
        self._directory = Path(tempfile.mkdtemp(prefix=f"{processes.RUN}-guest-", dir="/var/tmp"))
        self._console = self._directory / "console"
        self._reports = self._directory / "reports"
        self._reports.touch()
        self._said = self._directory / "qemu"
        try:
            archive = self._pack(items)
            self._deadline = time.monotonic() + _DEADLINE_S
            with self._said.open("wb") as said:
                argv = self._argv(archive)
                self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        except BaseException:
            processes.remove_tree(self._directory)
            raise

    def close(self) -> None:
        """Pull the plug. A second time does nothing."""
        if self._directory.exists():
            self._process.kill()
            self._process.wait()
            processes.remove_tree(self._directory)

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the guest says until it ends, at the latest when its time is over."""
        with self._reports.open() as reports:
            rest = ""
            while True:
                running = self._process.poll() is None
                rest += reports.read()
                *lines, rest = rest.split("\n")
                yield from map(json.loads, lines)
                if not running or time.monotonic() > self._deadline:
                    return
                if not lines:
                    time.sleep(0.05)

    def last_words(self) -> str:
        """The end of its console, or what qemu itself said."""
        if self._process.poll() is None:
            return f"it ran for {_DEADLINE_S} s and more; its console:\n{self._shown()}"
        return f"qemu ended: {self._said.read_text(errors='replace')}; its console:\n{self._shown()}"

    def _shown(self) -> str:
        return self._console.read_text(errors="replace")[-4000:] if self._console.exists() else ""

    def _pack(self, items: Sequence[str]) -> Path:
        (self._directory / "items").write_text("\n".join(items))
        archive = self._directory / "project.tar"
        with tarfile.open(archive, "w") as packed:
            for name in _SENT:
                packed.add(_PROJECT / name, arcname=name)
            packed.add(self._directory / "items", arcname="items")
        return archive

    def _argv(self, archive: Path) -> list[str]:
        disks = (
            f"file={self._images.root},format=raw,if=virtio,snapshot=on",
            f"file={self._images.python},format=raw,if=virtio,readonly=on",
            f"file={archive},format=raw,if=virtio,readonly=on",
        )
        # It dies with the test run, however that ends.
        return [
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *("qemu-system-x86_64", "-accel", "tcg", "-machine", "pc", "-smp", "2", "-m", "1024"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(self._images.kernel), "-initrd", str(self._images.initrd)),
            *("-append", f"{_COMMAND_LINE} onedock.init={self._init}"),
            *(word for disk in disks for word in ("-drive", disk)),
            *("-serial", f"file:{self._console}", "-serial", f"file:{self._reports}"),
        ]
