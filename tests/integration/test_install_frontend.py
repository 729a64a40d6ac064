"""Installation on a front-end, by the command, in a self-contained OpenNebula that has nothing but its files."""

import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_install_conf import CRLF, PACKAGED

from onedock.config.settings import ControllerSettings, Settings
from onedock.controller.driver.layout import DATASTORE_ACTIONS, TM_ACTIONS
from onedock.install.frontend import install, places, uninstall
from onedock.install.steps import InstallError, Step, Steps
from onedock.install.system import System

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="drivers are proven as oned's user"),
]

USER = "nobody"
MONITORD = '# monitor\nNETWORK = [ PORT = 4124 ]\nIM_MAD = [ NAME = "kvm", EXECUTABLE = "one_im_ssh" ]'


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Path]:
    """ONE_LOCATION, open to oned's user."""
    top = Path("/var/tmp") / f"odt-{os.getpid()}-one-{tmp_path.name[-40:]}"
    for name in ("etc", "lib/mads", "var/remotes/tm", "var/remotes/datastore"):
        (top / name).mkdir(parents=True)
    for path in (top, *top.rglob("*")):
        path.chmod(0o755)
    (top / "etc/oned.conf").write_text(PACKAGED)
    (top / "etc/monitord.conf").write_text(MONITORD)
    (top / "etc/oned.conf").chmod(0o640)
    entry = pwd.getpwnam(USER)
    for name in ("var", "var/remotes", "etc/oned.conf"):
        os.chown(top / name, entry.pw_uid, entry.pw_gid)
    yield top
    shutil.rmtree(top)


def command(one: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    action, *options = arguments
    argv = [str(Path(sys.executable).with_name("onedock")), action, "frontend", "--one-location", str(one)]
    environment = {**os.environ, "ONEDOCK_CONFIG": str(one / "onedock.toml")}
    return subprocess.run(
        [*argv, "--no-service", *options], check=False, capture_output=True, text=True, env=environment, timeout=60
    )


def as_json(one: Path, *arguments: str) -> Any:
    return json.loads(command(one, *arguments, "--json").stdout)


def state(top: Path) -> dict[str, tuple[object, ...]]:
    """Every file: content or target, mode, owner."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        if path.suffix != ".log":
            entry = path.lstat()
            content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[str(path.relative_to(top))] = (content, entry.st_mode, entry.st_uid, entry.st_gid)
    return found


def test_install_again_uninstall(one: Path) -> None:
    before = state(one)
    first = as_json(one, "install")
    assert (first["ok"], first["changed"]) == (True, True)
    after = state(one)
    assert {name for name in before if before[name] != after[name]} == {"etc/oned.conf", "etc/monitord.conf"}
    for name in ("etc/oned.conf", "etc/monitord.conf"):
        assert after[name][1:] == before[name][1:], "owner and mode stay"

    uid = pwd.getpwnam(USER).pw_uid
    for kind, actions in (("tm", TM_ACTIONS), ("datastore", DATASTORE_ACTIONS)):
        scripts = {name.rpartition("/")[2]: entry for name, entry in after.items() if f"{kind}/onedock/" in name}
        assert set(scripts) == {*actions, "action.py"}
        assert {entry[2] for entry in scripts.values()} == {uid}
    assert after["lib/mads/onedock-vmm"][1] == 0o100755

    again = as_json(one, "install")
    assert (again["ok"], again["changed"]) == (True, False)
    assert state(one) == after

    gone = as_json(one, "uninstall")
    assert (gone["ok"], gone["changed"]) == (True, True)
    assert state(one) == before
    assert as_json(one, "uninstall")["changed"] is False


def test_dry_run_shows_the_difference_and_writes_nothing(one: Path) -> None:
    before = state(one)
    shown = command(one, "install", "--dry-run").stdout
    assert '+    ARGUMENTS = "-t 15 -d dummy,shared,ssh,onedock"\n' in shown
    assert '+    NAME = "onedock", SUNSTONE_NAME = "ONEDock", EXECUTABLE = "onedock-im",\n' in shown
    assert state(one) == before
    command(one, "install")
    installed = state(one)
    assert '-    ARGUMENTS = "-t 15 -d dummy,shared,ssh,onedock"\n' in command(one, "uninstall", "--dry-run").stdout
    assert state(one) == installed


def test_what_came_since_stays(one: Path) -> None:
    command(one, "install")
    conf = one / "etc/oned.conf"
    conf.write_text(conf.read_text().replace("PORT=2633", "PORT=2644"))
    result = as_json(one, "uninstall")
    assert conf.read_text() == PACKAGED.replace("PORT=2633", "PORT=2644")
    details = {step["name"]: step["detail"] for step in result["steps"]}
    assert details[f"file {conf}"] == "not as in any backup: only what ONEDock had added is removed"
    [backup] = conf.parent.glob("oned.conf.onedock-backup-*")
    assert backup.read_text() == PACKAGED


def test_a_link_stays_a_link_and_line_ends_stay(one: Path) -> None:
    conf, real = one / "etc/oned.conf", one / "real.conf"
    conf.unlink()
    real.write_bytes(CRLF.encode())
    conf.symlink_to("../real.conf")
    assert as_json(one, "install")["ok"]
    assert conf.is_symlink()
    assert b"ssh,onedock" in real.read_bytes()
    assert as_json(one, "uninstall")["ok"]
    assert real.read_bytes() == CRLF.encode()


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("oned.conf", PACKAGED + 'TM_MAD=[ARGUMENTS="-d x"]', "line 33: TM_MAD is there twice"),
        ("oned.conf", PACKAGED + 'VM_MAD=[NAME="onedock",EXECUTABLE="sh"]', "line 33: VM_MAD onedock has EXECUTABLE"),
        ("monitord.conf", MONITORD + " [", "line 3: expected a NAME"),
        ("monitord.conf", MONITORD + '\nX="', "line 4: the quote that opens here is never closed"),
    ],
)
def test_a_refusal_changes_nothing(one: Path, file: str, text: str, reason: str) -> None:
    (one / "etc" / file).write_text(text)
    before = state(one)
    result = command(one, "install")
    assert result.returncode == 1
    assert f"onedock: {one}/etc/{file}: {reason}" in result.stderr
    assert "nothing was changed" in result.stderr
    assert state(one) == before


def test_drivers_that_do_not_start_are_not_registered(one: Path) -> None:
    (one / "lib").chmod(0o700)  # closed to oned's user
    before = state(one)
    result = command(one, "install")
    assert result.returncode == 1
    assert "cannot be executed: Permission denied; its directories must be open to oned's user" in result.stderr
    assert state(one) == before


def test_stanzas_by_hand_keep_their_drivers(one: Path) -> None:
    command(one, "install")
    conf = one / "etc/oned.conf"
    conf.write_text(conf.read_text() + 'VM_MAD=[NAME="onedock",EXECUTABLE="onedock-vmm"]\n')
    before = state(one)
    result = command(one, "uninstall")
    assert result.returncode == 1
    assert "VM_MAD onedock (line 33) was not written by `onedock install`" in result.stderr
    assert state(one) == before


def test_no_opennebula_here(tmp_path: Path) -> None:
    result = command(tmp_path, "install")
    assert result.returncode == 1
    assert result.stderr == (
        f"onedock: {tmp_path}/etc/oned.conf does not exist; this must run on OpenNebula's front-end, "
        "with --one-location if it is self-contained\n"
    )


@pytest.fixture
def group() -> Iterator[str]:
    name = f"odtf{os.getpid() % 100000}"
    yield name
    subprocess.run(["groupdel", name], check=True)


class Service:
    """The system's side of an installation, in a directory of the test."""

    def __init__(self, one: Path, top: Path, group: str, **settings: Any) -> None:
        self.top = top
        self.where = places(one)
        self.system = System(
            group=group,
            units=top / "units",
            tmpfiles=top / "tmpfiles",
            logrotate=top / "logrotate",
            run=top / "run",
            settings=top / "onedock.toml",
        )
        self.settings = Settings(controller=ControllerSettings(state_dir=top / "state", **settings))

    def install(self, **options: Any) -> list[Step]:
        steps = Steps(dry_run=False, show=lambda _: None)
        install(steps, self.where, self.settings, system=self.system, **options)
        return steps.taken

    def uninstall(self, **options: Any) -> None:
        uninstall(Steps(dry_run=False, show=lambda _: None), self.where, self.settings, system=self.system, **options)


def test_the_service(one: Path, tmp_path: Path, group: str) -> None:
    service = Service(one, tmp_path, group)
    service.install()
    unit = service.system.unit("controller").read_text()
    assert f"\nUser={USER}\n" in unit
    assert f"\nReadWritePaths=-/run/onedock -/var/tmp -{one}/var -{tmp_path}/state\n" in unit
    assert f"\nExecStart={Path(sys.executable).parent}/onedock-controller\n" in unit
    assert grp.getgrnam(group).gr_mem == [USER]
    state_dir = (tmp_path / "state").stat()
    assert (state_dir.st_mode & 0o7777, state_dir.st_uid) == (0o750, pwd.getpwnam(USER).pw_uid)
    text = service.system.settings.read_text()
    assert f'[opennebula]\nremotes_dir = "{one}/var/remotes"\nauth_file = "{one}/var/.one/one_auth"\n' in text
    assert not [step for step in service.install() if step.state == "changed"]
    service.uninstall()
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["onedock.toml"]


def test_another_socket_and_name_reach_the_stanzas(one: Path, tmp_path: Path, group: str) -> None:
    service = Service(one, tmp_path, group, driver_socket=Path("/run/other/driver sock"))
    steps = service.install(name="docker")
    text = (one / "etc/oned.conf").read_text()
    assert f"ARGUMENTS = \"--socket '/run/other/driver sock' --log {one}/var/onedock-vmm.log\"" in text
    assert 'NAME = "docker", SUNSTONE_NAME' in text
    assert any("ONEDOCK_DRIVER_SOCKET=/run/other/driver sock" in step.detail for step in steps)
    service.uninstall(name="docker")
    assert (one / "etc/oned.conf").read_text() == PACKAGED


@pytest.mark.parametrize("role", ["controller", "agent"])
def test_systemd_accepts_the_units(tmp_path: Path, role: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    system = System(group="daemon", units=tmp_path / "units", tmpfiles=tmp_path, run=tmp_path / "run")
    more = {"user": "daemon", "groups": "daemon", "paths": f"-{tmp_path}"}
    system.install(Steps(dry_run=False, show=lambda _: None), role, others=more)
    unit = str(system.unit(role))
    done = subprocess.run(["systemd-analyze", "verify", unit], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_programs_that_are_not_there(tmp_path: Path) -> None:
    system = System(units=tmp_path, programs=tmp_path)
    with pytest.raises(InstallError, match="onedock-agent does not exist; run the `onedock` that is installed"):
        system.install(Steps(dry_run=False, show=lambda _: None), "agent")
