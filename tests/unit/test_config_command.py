"""``onedock config``: each mistake with its line and the remedy, each value with where it comes from."""

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner, Result

from onedock.cli.main import app
from onedock.config.locate import line_of

WRONG = """# settings
[controller]
workers = 0
[regstry]
x = 1
[monitor]   # comment
hosts = 3
[nodes."n.1"]
engin = "x"
[log]
  level="loud"
"""


def run(file: Path, *arguments: str, **environment: str) -> Result:
    with patch.dict(os.environ, ONEDOCK_CONFIG=str(file), **environment):
        return CliRunner().invoke(app, ["config", *arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "onedock.toml"


def test_every_mistake_has_its_line_and_remedy(file: Path) -> None:
    file.write_text(WRONG)
    result = run(file, "check")
    assert result.exit_code == 1
    told = sorted(result.stderr.splitlines())
    for line, words in (
        (3, "controller.workers = 0: input should be greater than or equal to 1"),
        (4, "regstry does not exist; did you mean registry?"),
        (7, "monitor.hosts does not exist; did you mean host_s?"),
        (9, "nodes.n.1.engin does not exist; did you mean engine?"),
        (11, "log.level = \"loud\": input should be 'debug', 'info', 'warning' or 'error'"),
    ):
        [found] = [one for one in told if words in one]
        assert found.startswith(f"onedock: {file}:{line}: ")
    assert len(told) == 5


def test_a_file_that_is_no_toml(file: Path) -> None:
    file.write_text("[log]\nlevel = = 3\n")
    for command in ("check", "show"):
        result = run(file, command)
        assert result.exit_code == 1
        assert f"{file}: not valid TOML: Invalid value (at line 2, column 9)" in result.stderr


def test_a_variable_of_the_environment_is_named(file: Path) -> None:
    result = run(file, "check", ONEDOCK_LOG__LEVEL="loud")
    assert result.stderr.startswith("onedock: ONEDOCK_LOG__LEVEL: log.level = ")


def test_right_settings(file: Path) -> None:
    assert run(file, "check").stdout == "no file, all defaults: that is right\n"
    file.write_text('[log]\nlevel = "debug"\n')
    assert run(file, "check").stdout == f"{file} is right\n"


def test_show_says_where_each_value_comes_from(file: Path) -> None:
    file.write_text('[log]\nlevel = "debug"\n[nodes.n1]\n')
    shown = run(file, "show", ONEDOCK_MONITOR__HOST_S="5").stdout
    assert f'level = "debug"  # {file}:2' in " ".join(shown.split()).replace("  ", " ").replace('" #', '"  #')
    lines = [line.split("  # ") for line in shown.splitlines() if "  # " in line]
    sources = {line[0].split(" = ")[0].strip(): line[1] for line in lines}
    assert sources["host_s"] == "ONEDOCK_MONITOR__HOST_S"
    assert sources["beacon_s"] == "default"
    listed = json.loads(run(file, "show", "--json").stdout)
    assert {"name": "log.level", "value": "debug", "source": "file"} in listed
    assert {"name": "nodes.n1.agent", "value": "/run/onedock/agent.sock", "source": "default"} in listed


def test_reference(file: Path) -> None:
    assert "| `deadline_s` |" in run(file, "reference").stdout


def test_lines_of_dotted_keys() -> None:
    text = 'log.level = "x"\nnodes.n1.engine = "y"\n[nodes . "n 2"]\nagent = "z"\n'
    assert line_of(text, ("log", "level")) == 1
    assert line_of(text, ("nodes", "n1", "engine")) == 2
    assert line_of(text, ("nodes", "n 2", "agent")) == 4
    assert line_of(text, ("nodes", "n 2", "missing")) == 3
    assert line_of(text, ("monitor", "host_s")) is None
