"""docs/configuration.md tells what the settings are."""

import subprocess
import sys
from pathlib import Path

from onedock.config.reference import document
from onedock.config.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == document(), "settings have changed: run make docs"


def test_every_setting_is_explained() -> None:
    rows = [line for line in document().splitlines() if line.startswith("| `")]
    assert len(rows) > len(Settings.model_fields)
    for row in rows:
        _, _, _, explanation, _ = row.replace("\\|", "").split("|")
        assert explanation.strip(), row


def test_the_command_writes_the_file_it_is_given(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "onedock.config.reference", tmp_path / "page.md"], check=True)
    assert (tmp_path / "page.md").read_text() == document()
