"""A machine in software: boots a kernel with all features, runs given tests there, tells what became of them."""

import contextlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support import processes
from tests.support.guest.images import Images

_PROJECT = Path(__file__).resolve().parents[3]
_QEMU = "qemu-system-x86_64"
_SENT = ("pyproject.toml", "src", "tests")
_DEADLINE_S = 480
"""For everything that one guest still does when it is waited for. It runs some ten times slower than this machine."""

_NANOSECONDS_OF_AN_INSTRUCTION = 2
"""On the guest's clock; a power of two. Near to what emulation needs, so that its pauses are as long as ours."""

_COMMAND_LINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off"
    " systemd.unit=multi-user.target systemd.wants=onedock-tests.service systemd.mask=serial-getty@ttyS0.service"
    " systemd.mask=getty@tty1.service systemd.mask=systemd-random-seed.service systemd.mask=systemd-binfmt.service"
)


class Guest:
    """Boots when made, and must be closed; ``messages`` are those of ``reporter``, in order.

    Until somebody waits for its messages it gets only the processor time that nobody else wants. Its clock counts its
    instructions, so what runs beside it delays its tests and does not make them miss deadlines.

    Args:
        images: What it boots from.
        items: Node ids of pytest.
        init: Its first process: ``script``, up in three seconds, or ``systemd``, in ten.
    """

    def __init__(self, images: Images, items: Sequence[str], *, init: str) -> None:
        with contextlib.ExitStack() as opened:
            self._console, self._reports, said, archive = [opened.enter_context(_nameless()) for _ in range(4)]
            self._said = said
            _pack(items, archive)
            files = [archive, self._console, self._reports]
            argv = _argv(images, init, *(f"/proc/self/fd/{file.fileno()}" for file in files))
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=[file.fileno() for file in files]
            )
            self._files = opened.pop_all()
        # What is left behind is looked for by programs' names. This process has had two others until now, and for as
        # long as others want the processor it has none, though the kernel has done half of its exec.
        processes.wait_until(self._is_machine, within=30, what="qemu starts")

    def close(self) -> None:
        """Pull the plug. A second time does nothing."""
        self._process.kill()
        self._process.wait()
        self._files.close()

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the guest says until it ends, at the latest when its time is over."""
        rest = b""
        deadline = time.monotonic() + _DEADLINE_S
        self._hurry()
        while True:
            running = self._process.poll() is None
            rest += self._reports.read()
            *lines, rest = rest.split(b"\n")
            yield from map(json.loads, lines)
            if not running or time.monotonic() > deadline:
                return
            if not lines:
                time.sleep(0.05)

    def last_words(self) -> str:
        """The end of its console, or what qemu itself said."""
        if self._process.poll() is None:
            return f"it ran for {_DEADLINE_S} s and more; its console:\n{_end_of(self._console)}"
        return f"qemu ended: {_end_of(self._said)}; its console:\n{_end_of(self._console)}"

    def _is_machine(self) -> bool:
        return self._process.poll() is not None or processes.program(self._process.pid) == _QEMU

    def _hurry(self) -> None:
        for thread in Path(f"/proc/{self._process.pid}/task").glob("*"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))


def _nameless() -> IO[bytes]:
    """A file without a name: however a test run ends, nothing of it is left."""
    return tempfile.TemporaryFile(dir="/var/tmp", buffering=0)


def _end_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read()[-4000:].decode(errors="replace")


def _pack(items: Sequence[str], archive: IO[bytes]) -> None:
    listed = "\n".join(items).encode()
    with tarfile.open(fileobj=archive, mode="w") as packed:
        for name in _SENT:
            packed.add(_PROJECT / name, arcname=name)
        entry = tarfile.TarInfo("items")
        entry.size = len(listed)
        packed.addfile(entry, io.BytesIO(listed))


def _argv(images: Images, init: str, archive: str, console: str, reports: str) -> list[str]:
    disks = (
        f"file={images.root},format=raw,if=virtio,snapshot=on",
        f"file={images.python},format=raw,if=virtio,readonly=on",
        f"file={archive},format=raw,if=virtio,readonly=on",
    )
    # It dies with the test run, however that ends. One processor: with two, emulation pays more to keep them coherent
    # than the second one brings, and the guests run side by side.
    return [
        *("setpriv", "--pdeathsig", "KILL", "--", "chrt", "--idle", "0"),
        *(_QEMU, "-accel", "tcg", "-machine", "pc", "-smp", "1", "-m", "1024"),
        *("-icount", f"shift={_NANOSECONDS_OF_AN_INSTRUCTION.bit_length() - 1}"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(images.kernel), "-initrd", str(images.initrd)),
        *("-append", f"{_COMMAND_LINE} onedock.init={init}"),
        *(word for disk in disks for word in ("-drive", disk)),
        *("-serial", f"file:{console}", "-serial", f"file:{reports}"),
    ]
