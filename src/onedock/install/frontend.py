"""Installation on the front-end: drivers and scripts, their registration, the controller's service.

All that may be refused is refused before the first file is written; oned's configuration comes last, once the
drivers have proven that they start.
"""

import grp
import os
import pwd
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from onedock.config.settings import ControllerSettings, Settings
from onedock.controller.driver import relay
from onedock.controller.driver.layout import lay_out
from onedock.install import backups
from onedock.install.block import split
from onedock.install.handshake import prove
from onedock.install.oned_conf import IM, STORAGE, VMM, Driver, Result, add_to_monitord, add_to_oned, in_use, remove
from onedock.install.steps import InstallError, Owner, Steps, decode
from onedock.install.system import System
from onedock.install.template_syntax import ConfError

T = TypeVar("T")

RELAY = "onedock-relay.py"
_DRIVER = """#!/bin/sh
# Started by {by}, which ends if this fails.
exec /usr/bin/python3 -IS "${{0%/*}}/{relay}" {kind} "$@"
"""


@dataclass(frozen=True, slots=True)
class Places:
    """Directories of one OpenNebula (protocol reference 1.1, 5.5)."""

    etc: Path
    mads: Path
    remotes: Path
    logs: Path
    auth_file: Path

    @property
    def self_contained(self) -> bool:
        """Whether all is below one directory, ONE_LOCATION."""
        return self != PACKAGED

    @property
    def owner(self) -> Owner:
        """User and group of oned: those of its REMOTES directory."""
        state = self.remotes.stat()
        return state.st_uid, state.st_gid


PACKAGED = Places(
    etc=Path("/etc/one"),
    mads=Path("/usr/lib/one/mads"),
    remotes=Path("/var/lib/one/remotes"),
    logs=Path("/var/log/one"),
    auth_file=Path("/var/lib/one/.one/one_auth"),
)


def places(one_location: Path | None) -> Places:
    """Those of a packaged installation, or of a self-contained one. InstallError when there is none."""
    found = PACKAGED
    if one_location is not None:
        top = one_location.absolute()
        found = Places(top / "etc", top / "lib/mads", top / "var/remotes", top / "var", top / "var/.one/one_auth")
    for path in (found.etc / "oned.conf", found.etc / "monitord.conf", found.mads, found.remotes):
        if not path.exists():
            raise InstallError(
                f"{path} does not exist; this must run on OpenNebula's front-end, "
                "with --one-location if it is self-contained"
            )
    return found


@dataclass(frozen=True, slots=True)
class _Conf:
    """One of the two files, and what changes in it."""

    path: Path
    add: Callable[[str, Driver], Result]

    def read(self) -> str:
        return decode(self.path.read_bytes())


def _confs(where: Places) -> tuple[_Conf, _Conf]:
    # A monitor driver without hosts is harmless, so that file comes first.
    return _Conf(where.etc / "monitord.conf", add_to_monitord), _Conf(where.etc / "oned.conf", add_to_oned)


def install(
    steps: Steps, where: Places, settings: Settings, *, name: str = "onedock", system: System | None = None
) -> None:
    """Install or renew everything. Raises InstallError, before it has changed anything if it is about the files.

    Args:
        steps: take what is done.
        where: OpenNebula's directories.
        settings: ONEDock's.
        name: NAME of VM_MAD and IM_MAD.
        system: None leaves out group, units and rotation.
    """
    driver = _driver(where, settings, name)
    planned = [(conf, conf.read()) for conf in _confs(where)]
    results = [_understood(conf, partial(conf.add, text, driver)) for conf, text in planned]
    _place_drivers(steps, where, driver)
    _place_scripts(steps, where)
    if system is not None:
        _install_service(steps, where, settings, system)
    for (conf, text), result in zip(planned, results, strict=True):
        first = split(text).block is None and result.text != text
        steps.edit(conf.path, text, result.text, backup=backups.name_for(conf.path) if first else None)
        for note in result.notes:
            steps.note(str(conf.path), note)
    (system or System()).settle(steps, "opennebula", _other_settings(where, settings, name), write=system is not None)
    _advise(steps, where, settings, name, service=system is not None)


def uninstall(steps: Steps, where: Places, settings: Settings, *, name: str = "onedock", system: System | None) -> None:
    """Take everything back. Raises InstallError; drivers that are still registered stay."""
    planned = [(conf, conf.read()) for conf in reversed(_confs(where))]
    cleaned = [_understood(conf, partial(remove, text)) for conf, text in planned]
    for (conf, _), clean in zip(planned, cleaned, strict=True):
        if still := _understood(conf, partial(in_use, clean, name)):
            raise InstallError(
                f"{conf.path}: {still} was not written by `onedock install`, and oned does not start without its "
                "driver; remove that stanza, then repeat this; nothing was changed"
            )
    for (conf, text), clean in zip(planned, cleaned, strict=True):
        backups.undo(steps, conf.path, text, clean)
    for file in (VMM, IM, RELAY):
        steps.absent(where.mads / file)
    for kind in ("tm", "datastore"):
        steps.absent(where.remotes / kind / STORAGE)
    if system is not None:
        steps.absent(system.logrotate / "onedock")
        system.uninstall(steps, "controller")
        steps.note("journal", f"{settings.controller.state_dir} stays: remove it if ONEDock is not to come back")
    if any(step.state in {"changed", "planned"} for step in steps.taken):
        steps.note("next", "restart OpenNebula; delete hosts and datastores of ONEDock before")


def _driver(where: Places, settings: Settings, name: str) -> Driver:
    socket = settings.controller.driver_socket
    first = [] if socket == ControllerSettings().driver_socket else ["--socket", str(socket)]

    def arguments(program: str) -> str:
        text = shlex.join([*first, "--log", str(where.logs / f"{program}.log")])
        if '"' in text or "\\" in text:
            raise InstallError(f"{text}: a path with quotes or backslashes cannot be written into oned.conf")
        return text

    return Driver(name, arguments(VMM), arguments(IM))


def _understood(conf: _Conf, work: Callable[[], T]) -> T:
    """Result of work on the text of a file; what is wrong there gets the file's name."""
    try:
        return work()
    except ConfError as error:
        raise InstallError(f"{conf.path}: {error}; nothing was changed") from error


def _place_drivers(steps: Steps, where: Places, driver: Driver) -> None:
    """The two executables and the program that they run; proven under other names before they take their place."""
    state = where.mads.stat()
    owner = (state.st_uid, state.st_gid)
    files = {
        RELAY: (Path(relay.__file__).read_bytes(), 0o644),
        VMM: (_DRIVER.format(by="oned", relay=RELAY, kind="vmm").encode(), 0o755),
        IM: (_DRIVER.format(by="monitord", relay=RELAY, kind="im").encode(), 0o755),
    }
    if not steps.dry_run:
        with _staged(where.mads) as stage:
            for name, (content, mode) in files.items():
                (stage / name).write_bytes(content)
                (stage / name).chmod(mode)
            for name, arguments in ((VMM, driver.vmm_arguments), (IM, driver.im_arguments)):
                prove(stage / name, arguments, where.owner)
        steps.done("handshake of both drivers", changed=False, detail="proven as oned starts them")
    for name, (content, mode) in files.items():
        steps.file(where.mads / name, content, mode=mode, owner=owner)


@contextmanager
def _staged(mads: Path) -> Iterator[Path]:
    stage = Path(tempfile.mkdtemp(prefix=".onedock-proof-", dir=mads))
    try:
        stage.chmod(0o755)
        yield stage
    finally:
        shutil.rmtree(stage)


def _place_scripts(steps: Steps, where: Places) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch)
        lay_out(wanted)
        changed = False
        for kind in ("tm", "datastore"):
            new, old = wanted / kind / STORAGE, where.remotes / kind / STORAGE
            changed = changed or _listing(new, where.owner) != _listing(old, None)
    if changed and not steps.dry_run:
        lay_out(where.remotes)
        for kind in ("tm", "datastore"):
            directory = where.remotes / kind / STORAGE
            directory.chmod(0o755)
            for path in (directory, *directory.iterdir()):
                os.chown(path, *where.owner, follow_symlinks=False)
    steps.done(f"scripts in {where.remotes}/{{tm,datastore}}/{STORAGE}", changed=changed)


def _listing(directory: Path, owner: Owner | None) -> dict[str, tuple[object, ...]]:
    """What is in a directory; ``owner`` None: with the owners that it has."""
    if not directory.is_dir():
        return {}
    found: dict[str, tuple[object, ...]] = {}
    for path in directory.iterdir():
        state = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes()
        found[path.name] = (content, state.st_mode, owner or (state.st_uid, state.st_gid))
    return found


def _install_service(steps: Steps, where: Places, settings: Settings, system: System) -> None:
    uid, gid = where.owner
    if uid == 0:
        raise InstallError(f"{where.remotes} belongs to root; the controller runs as its owner, which is oned's user")
    user, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid).gr_name
    groups = [system.group, *(name for name in ("docker",) if _has_group(name))]
    state = settings.controller.state_dir
    paths = f"-{where.remotes.parent} -{state}"
    more = {"user": user, "groups": " ".join(groups), "paths": paths}
    system.install(steps, "controller", user=user, others=more)
    steps.directory(state, mode=0o750, owner=(uid, gid))
    if not where.self_contained:
        system.rotate(steps, where.logs, (user, group))


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _other_settings(where: Places, settings: Settings, name: str) -> dict[str, str]:
    """Those of section [opennebula] that are not as this installation needs them."""
    one = settings.opennebula
    needed = {"driver": name, "remotes_dir": str(where.remotes), "auth_file": str(where.auth_file)}
    return {setting: value for setting, value in needed.items() if str(getattr(one, setting)) != value}


def _advise(steps: Steps, where: Places, settings: Settings, name: str, *, service: bool) -> None:
    """What the admin has to do next, in order."""
    if settings.controller.driver_socket != ControllerSettings().driver_socket:
        socket = settings.controller.driver_socket
        steps.note("settings", f"oned's own environment needs ONEDOCK_DRIVER_SOCKET={socket}, for the scripts")
    if service:
        steps.note("next", "systemctl enable --now onedock-controller (after an upgrade: systemctl restart)")
    else:
        steps.note("next", f"have onedock-controller run, as the owner of {where.remotes}")
    if any(step.diff for step in steps.taken):
        how = "stop it, start it" if where.self_contained else "systemctl restart opennebula"
        steps.note("next", f"restart OpenNebula, which reads its configuration only then ({how})")
    steps.note(
        "next", f"onehost create <node> --im {name} --vm {name}, for each node after `onedock install node` there"
    )
