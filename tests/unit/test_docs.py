"""README.md and docs/ name only what exists; and the check of that finds what does not."""

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.check_docs import ROOT, check

MAP = "# Map\n\n[page](page.md)\n"


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Without the garbage collector: what it finalizes of earlier tests can have its traceback formatted.

    That parses as well, and a parser interrupted by another ends in a SystemError (CPython issue 106905, in 3.11).
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def problems(directory: Path, page: str, *, index: str = MAP) -> list[str]:
    """What is wrong with a page of this text."""
    (directory / "docs").mkdir()
    (directory / "README.md").write_text("# Readme\n\n[map](docs/index.md)\n")
    (directory / "docs" / "index.md").write_text(index)
    (directory / "docs" / "page.md").write_text(page)
    return check(directory)


def test_the_documents_are_right() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts/check_docs.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_exists_is_no_problem(tmp_path: Path) -> None:
    page = (
        "# A page: `code`, and more\n\n## Twice\n\n## Twice\n\n"
        "[up](../README.md#readme) [here](#a-page-code-and-more) [second](#twice-1) [away](https://example.org/#x)\n\n"
        "`onedock log 42 --since 2h`, `onedock config show`, `onedock-controller`, `oned.conf`, `[not](a-link.md)`,\n"
        '`log.level = "debug"`, `nodes.<name>.engine`, `ONEDOCK_LOG__LEVEL=debug`\n\n'
        "```sh\n$ onedock doctor --fix   # [no](link.md)\noneimage create -d onedock web.tmpl\n```\n\n"
        "| message | what to do |\n|---|---|\n"
        "| `another controller works with …: stop it first` | stop it |\n| `No such thing` (OpenNebula) | nothing |\n"
    )
    assert problems(tmp_path, page) == []


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("[text](nowhere.md)", "nowhere.md: there is no such file"),
        ("[text](index.md#nothing)", "index.md#nothing: there is no such heading"),
        ("`onedock frobnicate 42`", "there is no command frobnicate"),
        ("`onedock config frobnicate`", "there is no command frobnicate"),
        ("`onedock log 42 --backwards`", "there is no option --backwards"),
        ("```sh\nonedock frobnicate\n```", "there is no command frobnicate"),
        ("`controller.patience_s`", "controller.patience_s: there is no such setting"),
        ("`ONEDOCK_LOG__VOLUME=11`", "ONEDOCK_LOG__VOLUME: there is no such setting"),
        ("| message | why |\n|---|---|\n| `it is … broken somehow` | |\n", "nothing in src/ says 'broken somehow'"),
    ],
)
def test_what_does_not_exist_is_found(tmp_path: Path, page: str, words: str) -> None:
    found = problems(tmp_path, page)
    assert len(found) == 1
    assert words in found[0]


def test_a_page_without_a_way_to_it_is_found(tmp_path: Path) -> None:
    assert problems(tmp_path, "# Page\n", index="# Map\n") == ["docs/page.md: no link leads here"]
