"""Installation on a node: onedock-runtime with its registration in the engine, and the agent's service.

The engine is told by SIGHUP and never restarted; its other settings are not touched.
"""

import pwd
from dataclasses import dataclass
from pathlib import Path

from onedock.config.settings import AgentSettings, Settings
from onedock.install import backups, proof
from onedock.install.daemon_json import EMPTY, Runtime, add, is_before, remove
from onedock.install.engine import Engine, option
from onedock.install.json_text import JsonTextError, load, set_member
from onedock.install.steps import ROOT, InstallError, Steps, decode, encode, replace
from onedock.install.system import System
from onedock.nodeside import runtime as wrapper
from onedock.nodeside.agent.dhcp.client import find_program

_PROGRAMS = (("onedock-runtime", 0o755), ("patch_bundle.py", 0o644))
_LABEL = "org.onedock.vm"
_ONED_USER = "oneadmin"
"""Of OpenNebula's packages, on nodes too."""


@dataclass(frozen=True, slots=True)
class Node:
    """What is installed where.

    Attributes:
        engine: the engine of this machine.
        prefix: directory of onedock-runtime.
        settings: ONEDock's.
        system: None leaves out group, directory of sockets, and the agent's unit.
    """

    engine: Engine
    prefix: Path
    settings: Settings
    system: System | None

    @property
    def runtime(self) -> Runtime:
        """The registration."""
        bindings = self.settings.agent.runtime_dir
        default = AgentSettings().runtime_dir
        return Runtime(
            self.settings.containers.runtime,
            self.prefix / "onedock-runtime",
            None if bindings == default else bindings,
        )


def install(steps: Steps, node: Node, *, live_restore: bool = False) -> None:
    """Install or renew everything, and prove it with a container. Raises InstallError.

    ``live_restore``: let containers run on while the engine is stopped or upgraded; False leaves that as it is.
    """
    runtime = node.runtime
    info = node.engine.call("GET", "/info")
    config = node.engine.config_file()
    before = _read(config)
    arguments = node.engine.arguments()
    if option(arguments, "--add-runtime") is not None:
        raise InstallError(
            "dockerd is started with --add-runtime, and does not start with that and runtimes in its file; "
            f"move what it says to {config} first"
        )
    if live_restore and info.get("Swarm", {}).get("LocalNodeState", "inactive") != "inactive":
        raise InstallError("--live-restore: the engine is part of a swarm, which excludes it; leave the swarm first")
    by_flag = option(arguments, "--live-restore") is not None
    try:
        after = add(before or EMPTY, runtime, live_restore=live_restore and not by_flag)
    except JsonTextError as error:
        raise InstallError(f"{config}: {error}; nothing was changed") from None

    for name, mode in _PROGRAMS:
        content = Path(wrapper.__file__).with_name(name).read_bytes()
        steps.file(node.prefix / name, content, mode=mode)
    if node.system is not None:
        node.system.install(steps, "agent", user=_ONED_USER if _exists(_ONED_USER) else "")
    steps.directory(node.settings.agent.runtime_dir, mode=0o700, owner=ROOT)
    _register(steps, node, config, before, after)
    if not steps.dry_run:
        proof.prove(node.engine, runtime.name, node.settings.agent.runtime_dir)
        steps.done("a container through onedock-runtime", changed=False, detail="started in its own network, removed")
    if not live_restore and not info.get("LiveRestoreEnabled"):
        steps.note("live-restore", "is off: VMs stop whenever the engine does. To set it: --live-restore")
    if node.system is not None:
        if node.settings.agent.socket_group != node.system.group:
            node.system.settle(steps, "agent", {"socket_group": node.system.group})
        if not find_program():
            steps.note("udhcpc", "is missing: NICs with METHOD=dhcp need it (package udhcpc, or busybox)")
        steps.note("next", "systemctl enable --now onedock-agent (after an upgrade: systemctl restart; VMs run on)")


def uninstall(steps: Steps, node: Node) -> None:
    """Take everything back. Raises InstallError while VMs are on the node: they could not be started again."""
    name = node.runtime.name
    left = node.engine.call("GET", f'/containers/json?all=1&filters={{"label":["{_LABEL}"]}}')
    if left:
        vms = ", ".join(sorted(str(container["Labels"][_LABEL]) for container in left)[:10])
        raise InstallError(f"{len(left)} VMs are on this node ({vms}); terminate them or move them first")
    config = node.engine.config_file()
    text = _read(config)
    if text is not None:
        try:
            cleaned = remove(text, name)
        except JsonTextError as error:
            raise InstallError(f"{config}: {error}; nothing was changed") from None
        if cleaned != text and not steps.dry_run:
            _forget(node, config, cleaned)
        if cleaned != text and is_before(EMPTY, cleaned) and not backups.any_of(config):
            steps.absent(config)
        else:
            backups.undo(steps, config, text, cleaned, same=is_before)
        if cleaned != text and not steps.dry_run:
            node.engine.hang_up()  # live-restore may be off again
    for file, _ in _PROGRAMS:
        steps.absent(node.prefix / file)
    if node.prefix.is_dir() and not any(node.prefix.iterdir()):
        steps.absent(node.prefix)
    steps.absent(node.settings.agent.runtime_dir)
    if node.system is not None:
        node.system.uninstall(steps, "agent")
        steps.absent(node.settings.agent.state_dir)


def _register(steps: Steps, node: Node, config: Path, before: str | None, after: str) -> None:
    """Write daemon.json and have it read; back to the old one if the engine does not take it."""
    runtime, entry = node.runtime, node.runtime.entry()
    if before is None:
        steps.file(config, after.encode())
    else:
        first = remove(before, runtime.name) == before
        steps.edit(config, before, after, backup=backups.name_for(config) if first else None)
    loaded = node.engine.registered(runtime.name) == entry
    if not steps.dry_run and (after != before or not loaded):
        try:
            node.engine.reload(runtime.name, entry)
        except InstallError:
            if before is None:
                steps.absent(config)
            else:
                steps.edit(config, after, before, detail="as it was")
            node.engine.hang_up()
            raise
    steps.done(f"engine knows runtime {runtime.name}", changed=not loaded, detail=node.engine.url)


def _forget(node: Node, config: Path, cleaned: str) -> None:
    """Have the engine forget the runtime: a file that says nothing of runtimes would leave it those it has."""
    state = config.stat()
    others = load(cleaned).get("runtimes", {})
    text = set_member(cleaned, ("runtimes",), others)
    replace(config.resolve(), encode(text), mode=state.st_mode & 0o7777, owner=(state.st_uid, state.st_gid))
    node.engine.reload(node.runtime.name, None)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _read(path: Path) -> str | None:
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"{path} cannot be read: {error.strerror}; run this as root") from None
