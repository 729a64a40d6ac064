"""An earlier state of the product, from this repository's history, to run processes from."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

VARIABLE = "ONEDOCK_TEST_PREVIOUS"
"""Names the commit, tag or branch to take as the previous state."""

_ROOT = Path(__file__).parents[2]


class NoHistoryError(Exception):
    """There is no previous state to be had here; the message says why."""


def previous_commit() -> str:
    """Hash of the commit that is the previous state of the product.

    It is what ``ONEDOCK_TEST_PREVIOUS`` names; by default the parent of the newest commit that changed the product, so
    that commits of documents and tests alone do not make both states the same.

    Raises:
        NoHistoryError: there is no git, no repository, or its history does not reach so far (a shallow clone).
        ValueError: the variable names nothing in this repository.
    """
    if wanted := os.environ.get(VARIABLE):
        try:
            return _commit(wanted)
        except NoHistoryError as error:
            raise ValueError(f"{VARIABLE}={wanted!r} is no commit of this repository") from error
    newest = _git("log", "-1", "--format=%H", "--", "src/onedock").decode().strip()
    if not newest:
        raise NoHistoryError("no commit of this repository has changed src/onedock")
    return _commit(f"{newest}^")


def unpack(commit: str, directory: Path) -> Path:
    """Put a commit's sources into a directory; returns the one to be found first by Python.

    Raises ValueError when Python, asked as the processes are started, would not take the package from there.
    """
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit, "src"))) as archive:
        archive.extractall(directory, filter="data")
    source = directory / "src"
    command = [sys.executable, "-c", "import onedock; print(onedock.__file__)"]
    asked = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(source)}
    )
    if not Path(asked.stdout.strip()).is_relative_to(source):
        raise ValueError(f"Python takes onedock from {asked.stdout.strip()}, not from {source}")
    return source


def _commit(name: str) -> str:
    return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").decode().strip()


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", _ROOT, *arguments], check=True, capture_output=True).stdout
    except FileNotFoundError as error:
        raise NoHistoryError("git is not installed") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip() or "not in this history (shallow clone?)"
        raise NoHistoryError(f"git {' '.join(arguments)}: {said}") from error
