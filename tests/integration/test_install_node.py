"""Installation on a node with a real engine: registered without a restart, proven by a container, undone exactly."""

import grp
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import engine as engines
from tests.support import images
from tests.support.engine import PrivateEngine

from onedock.config.settings import AgentSettings, Settings
from onedock.install.engine import Engine
from onedock.install.node import Node, install, uninstall
from onedock.install.steps import InstallError, Step, Steps
from onedock.install.system import System

pytestmark = [
    pytest.mark.root,
    pytest.mark.engine,
    pytest.mark.skipif(bool(engines.why_not()), reason=str(engines.why_not())),
]

VM = 26010


class Scene:
    """An engine of its own, whose daemon.json has ``runtimes`` as given, and the places of one installation."""

    def __init__(self, engine: PrivateEngine, top: Path) -> None:
        self.engine = engine
        self.config = engine.directory / "daemon.json"
        self.group = f"odt{os.getpid() % 100000}"
        self.system = System(
            group=self.group,
            units=top / "units",
            tmpfiles=top / "tmpfiles",
            logrotate=top / "logrotate",
            run=top / "run",
            settings=top / "onedock.toml",
        )
        settings = Settings(agent=AgentSettings(runtime_dir=top / "run/runtime", state_dir=top / "state"))
        self.node = Node(Engine(engine.url), top / "lib", settings, self.system)

    def steps(self, *, dry_run: bool = False) -> Steps:
        return Steps(dry_run=dry_run, show=lambda step: None)

    def install(self, **options: Any) -> list[Step]:
        steps = self.steps()
        install(steps, self.node, **options)
        return steps.taken

    def uninstall(self) -> list[Step]:
        steps = self.steps()
        uninstall(steps, self.node)
        return steps.taken


@contextmanager
def scene(top: Path, **options: Any) -> Iterator[Scene]:
    with PrivateEngine(options={"runtimes": {}, **options}) as engine:
        made = Scene(engine, top)
        try:
            yield made
        finally:
            subprocess.run(["groupdel", made.group], check=False, capture_output=True)


def changed(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step.state == "changed"]


def test_install_again_uninstall(tmp_path: Path) -> None:
    with scene(tmp_path, **{"live-restore": False}) as node:
        text = (
            '{\n    "live-restore": false,' + node.config.read_text().replace('"live-restore": false, ', "")[1:] + "\n"
        )
        node.config.write_text(text)
        node.config.chmod(0o640)
        engine, pid = node.engine, node.engine.dockerd_pid
        image = images.load(engine)
        other = engine.api("POST", "/containers/create", {"Image": image, "HostConfig": {"NetworkMode": "none"}})["Id"]
        engine.api("POST", f"/containers/{other}/start")
        images_before = engine.api("GET", "/images/json")

        planned = node.steps(dry_run=True)
        install(planned, node.node)
        assert {step.state for step in planned.taken} <= {"ok", "planned", "note"}
        assert any("+" in step.diff and "onedock-runtime" in step.diff for step in planned.taken)
        assert node.config.read_text() == text
        assert list(tmp_path.iterdir()) == []

        first = node.install()
        assert [step.name for step in first if step.state == "note"] == ["live-restore", "next"]
        assert any(step.name == "engine knows runtime onedock" and step.state == "changed" for step in first)
        config = json.loads(node.config.read_text())
        assert config.pop("runtimes") == {"onedock": node.node.runtime.entry()}
        assert config == {name: value for name, value in json.loads(text).items() if name != "runtimes"}
        assert node.config.stat().st_mode & 0o777 == 0o640
        assert engine.dockerd_pid == pid
        assert engine.api("GET", f"/containers/{other}/json")["State"]["Running"]
        assert engine.api("GET", "/images/json") == images_before
        assert len(engine.api("GET", "/containers/json?all=1")) == 1
        assert not list(Path("/run/netns").glob("onedock-proof-*"))
        assert (tmp_path / "lib/onedock-runtime").stat().st_mode & 0o777 == 0o755
        run = (tmp_path / "run").stat()
        assert (run.st_mode & 0o7777, run.st_gid) == (0o1775, grp.getgrnam(node.group).gr_gid)

        assert changed(node.install()) == []
        [backup] = node.config.parent.glob("daemon.json.onedock-backup-*")
        assert backup.read_text() == text

        assert changed(node.install(live_restore=True))
        assert engine.api("GET", "/info")["LiveRestoreEnabled"]
        assert not [step for step in node.install() if step.name == "live-restore"]

        node.uninstall()
        assert changed(node.uninstall()) == []
        assert "onedock" not in engine.api("GET", "/info")["Runtimes"]
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["onedock.toml"]
        assert f'[agent]\nsocket_group = "{node.group}"\n' in node.system.settings.read_text()


def test_byte_for_byte(tmp_path: Path) -> None:
    with scene(tmp_path) as node:
        text = node.config.read_text().replace(", ", " ,\n\n\t")
        node.config.write_text(text)
        node.install()
        assert node.config.read_text() != text
        node.uninstall()
        assert node.config.read_text() == text
        assert list(node.config.parent.glob("*.onedock-*")) == []

        node.install()
        node.config.write_text(node.config.read_text().replace('"live-restore"', '"debug": false, "live-restore"'))
        node.uninstall()
        assert json.loads(node.config.read_text())["debug"] is False
        assert "onedock" not in json.loads(node.config.read_text()).get("runtimes", {})
        assert len(list(node.config.parent.glob("*.onedock-backup-*"))) == 1


def test_a_file_that_is_not_understood_changes_nothing(tmp_path: Path) -> None:
    with scene(tmp_path) as node:
        text = node.config.read_text() + "\n// by hand\n"
        node.config.write_text(text)
        with pytest.raises(InstallError, match=r"daemon.json: not valid JSON: .*line 2.*nothing was changed"):
            node.install()
        assert node.config.read_text() == text
        assert list(tmp_path.iterdir()) == []


def test_an_engine_that_does_not_take_it_gets_its_file_back(tmp_path: Path) -> None:
    with scene(tmp_path) as node:
        settings = json.loads(node.config.read_text()) | {"max-concurrent-downloads": -1}
        node.config.write_text(json.dumps(settings))
        text = node.config.read_text()
        node.node = replace(node.node, engine=Engine(node.engine.url, reload_s=2))
        with pytest.raises(InstallError, match="has not taken runtime 'onedock'"):
            node.install()
        assert node.config.read_text() == text


def test_vms_on_the_node_keep_it(tmp_path: Path) -> None:
    with scene(tmp_path) as node:
        node.install()
        body = {"Image": images.load(node.engine), "Labels": {"org.onedock.vm": str(VM)}}
        node.engine.api("POST", "/containers/create", body | {"HostConfig": {"NetworkMode": "none"}})
        with pytest.raises(InstallError, match=rf"1 VMs are on this node \({VM}\); terminate them"):
            node.uninstall()
        assert "onedock" in node.engine.api("GET", "/info")["Runtimes"]


@pytest.mark.parametrize("url", ["tcp://10.0.0.1:2375", "https://node:2376", "unix://", "unix:///no/such.sock"])
def test_an_engine_that_is_not_there(url: str, tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"run this on the node|does not answer at unix:///no/such.sock"):
        Engine(url).call("GET", "/info")
