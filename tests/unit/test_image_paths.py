"""Which archives on the front-end may be read."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedock.controller.images.paths import DirectoryRules, open_archive
from onedock.reconcilers.errors import TerminalError


@contextmanager
def opened(path: Path | str, rules: DirectoryRules) -> Iterator[bytes]:
    descriptor = open_archive(str(path), rules)
    try:
        yield os.read(descriptor, 100)
    finally:
        os.close(descriptor)


@pytest.fixture
def safe(tmp_path: Path) -> Path:
    directory = tmp_path / "safe"
    directory.mkdir()
    (directory / "image.tar").write_bytes(b"image")
    return directory


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    return path


@pytest.fixture
def rules(safe: Path) -> DirectoryRules:
    return DirectoryRules(safe=(str(safe),))


@pytest.mark.parametrize(
    ("safe_dirs", "restricted_dirs", "path", "allowed"),
    [
        ("", "", "/var/tmp/x", True),
        ("", "", "/var/tmpx/x", False),
        ("", "", "/etc/passwd", False),
        ("/a /b", "", "/b/x", True),
        ("/a", "/etc /var", "/home/x", True),
        ("/a", "/etc /var", "/var/x", False),
        ("/var/tmp", "/etc /var", "/var/tmp/x", True),
        ("/var/tmp/", "/", "/var/tmp/x", True),
        ("/", "/etc", "/etc/passwd", True),
    ],
)
def test_rules_of_a_datastore(safe_dirs: str, restricted_dirs: str, path: str, allowed: bool) -> None:
    assert DirectoryRules.from_template(safe_dirs, restricted_dirs).allow(path) is allowed


def test_an_archive_in_a_safe_directory_is_read(safe: Path, rules: DirectoryRules) -> None:
    with opened(safe / "image.tar", rules) as content:
        assert content == b"image"


def test_a_safe_directory_may_be_a_link(safe: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(safe)
    with opened(tmp_path / "link" / "image.tar", DirectoryRules(safe=(str(tmp_path / "link"),))) as content:
        assert content == b"image"


@pytest.mark.parametrize("way", ["direct", "dots", "link", "directory link", "slashes"])
def test_nothing_else_is_read(way: str, safe: Path, secret: Path, rules: DirectoryRules) -> None:
    (safe / "link").symlink_to(secret)
    (safe / "up").symlink_to(secret.parent)
    path = {
        "direct": str(secret),
        "dots": f"{safe}/../secret",
        "link": f"{safe}/link",
        "directory link": f"{safe}/up/secret",
        "slashes": f"//{secret}",
    }[way]
    with pytest.raises(TerminalError, match="may not be read from there"):
        open_archive(path, rules)


def test_what_does_not_exist_elsewhere_is_not_told(safe: Path, secret: Path, rules: DirectoryRules) -> None:
    for path in (f"{secret}-absent", f"//{secret}-absent", f"{safe}/../absent"):
        with pytest.raises(TerminalError, match="may not be read from there"):
            open_archive(path, rules)
    with pytest.raises(TerminalError, match="No such file"):
        open_archive(f"{safe}/absent", rules)


def test_only_regular_files_are_archives(safe: Path, rules: DirectoryRules) -> None:
    os.mkfifo(safe / "fifo")
    for path in (safe, safe / "fifo"):
        with pytest.raises(TerminalError, match="not a regular file"):
            open_archive(str(path), rules)
    with pytest.raises(TerminalError, match="not a regular file"):
        open_archive("/dev/zero", DirectoryRules(safe=("/dev",)))


def test_no_descriptor_is_left_open(safe: Path, secret: Path, rules: DirectoryRules) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (str(secret), f"{safe}/absent", str(safe)):
        with pytest.raises(TerminalError):
            open_archive(path, rules)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_link_swapped_at_any_time_never_leads_out(safe: Path, secret: Path, rules: DirectoryRules) -> None:
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for target in (secret, safe / "image.tar"):
                (safe / "next").symlink_to(target)
                (safe / "next").rename(safe / "swapped")

    (safe / "swapped").symlink_to(safe / "image.tar")
    attacker = threading.Thread(target=swap)
    attacker.start()
    outcomes = set()
    try:
        for _ in range(3000):
            try:
                with opened(safe / "swapped", rules) as content:
                    outcomes.add(content)
            except TerminalError:
                outcomes.add(b"refused")
    finally:
        stop.set()
        attacker.join()
    assert outcomes == {b"image", b"refused"}


@given(st.text())
def test_any_path_is_read_or_refused(path: str) -> None:
    with pytest.raises(TerminalError):
        open_archive(f"/proc/self/{path}", DirectoryRules())
