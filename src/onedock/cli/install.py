"""``onedock install`` and ``onedock uninstall``: each step is shown as it is taken, or all of them as JSON."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from onedock.config.settings import SettingsError, load_settings
from onedock.install import frontend as front
from onedock.install import node as nodes
from onedock.install.engine import Engine
from onedock.install.steps import InstallError, Step, Steps
from onedock.install.system import System

_COLOURS = {"ok": "green", "changed": "yellow", "planned": "cyan", "note": "blue"}

Location = Annotated[Path | None, typer.Option(help="ONE_LOCATION of a self-contained OpenNebula.", file_okay=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, with the differences of files.")]
DriverName = Annotated[str, typer.Option(help="NAME of VM_MAD and IM_MAD.", metavar="NAME")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: one object with all steps at the end.")]
Service = Annotated[bool, typer.Option(help="The systemd unit, the group, the directory of sockets.")]
EngineUrl = Annotated[str, typer.Option("--engine", help="Socket of this machine's engine.", metavar="URL")]
Prefix = Annotated[Path, typer.Option(help="Directory of onedock-runtime.", file_okay=False)]

_ENGINE = "unix:///var/run/docker.sock"
_PREFIX = Path("/usr/lib/onedock")


def register(app: typer.Typer) -> None:
    """Add both commands."""
    install = typer.Typer(no_args_is_help=True, help="Install ONEDock, or renew it: what is right already stays.")
    install.command("frontend")(_install_frontend)
    install.command("node")(_install_node)
    app.add_typer(install, name="install")
    uninstall = typer.Typer(no_args_is_help=True, help="Take back what `onedock install` has done.")
    uninstall.command("frontend")(_uninstall_frontend)
    uninstall.command("node")(_uninstall_node)
    app.add_typer(uninstall, name="uninstall")


def _install_frontend(
    one_location: Location = None,
    dry_run: DryRun = False,
    driver_name: DriverName = "onedock",
    service: Service = True,
    as_json: AsJson = False,
) -> None:
    """Drivers and scripts, their stanzas in oned.conf and monitord.conf, the controller's service."""
    with _steps(dry_run=dry_run, as_json=as_json) as steps:
        system = System() if service else None
        front.install(steps, front.places(one_location), load_settings(), name=driver_name, system=system)


def _uninstall_frontend(
    one_location: Location = None,
    dry_run: DryRun = False,
    driver_name: DriverName = "onedock",
    service: Service = True,
    as_json: AsJson = False,
) -> None:
    """Give oned.conf and monitord.conf back as they were, and remove drivers, scripts and service."""
    with _steps(dry_run=dry_run, as_json=as_json) as steps:
        system = System() if service else None
        front.uninstall(steps, front.places(one_location), load_settings(), name=driver_name, system=system)


def _install_node(
    engine: EngineUrl = _ENGINE,
    prefix: Prefix = _PREFIX,
    live_restore: Annotated[
        bool, typer.Option("--live-restore", help="Also let VMs run on while the engine is stopped or upgraded.")
    ] = False,
    dry_run: DryRun = False,
    service: Service = True,
    as_json: AsJson = False,
) -> None:
    """Runtime, its registration in the engine (nothing restarts), the agent's service; proven by a container."""
    with _steps(dry_run=dry_run, as_json=as_json) as steps:
        nodes.install(steps, _node(engine, prefix, service=service), live_restore=live_restore)


def _uninstall_node(
    engine: EngineUrl = _ENGINE,
    prefix: Prefix = _PREFIX,
    dry_run: DryRun = False,
    service: Service = True,
    as_json: AsJson = False,
) -> None:
    """Give daemon.json back as it was, and remove runtime and service. Refused while VMs are on the node."""
    with _steps(dry_run=dry_run, as_json=as_json) as steps:
        nodes.uninstall(steps, _node(engine, prefix, service=service))


def _node(engine: str, prefix: Path, *, service: bool) -> nodes.Node:
    return nodes.Node(Engine(engine), prefix.absolute(), load_settings(), System() if service else None)


@contextmanager
def _steps(*, dry_run: bool, as_json: bool) -> Iterator[Steps]:
    """Show what is done; an expected failure becomes one line and status 1."""
    steps = Steps(dry_run=dry_run, show=_keep if as_json else _print)
    error = ""
    try:
        yield steps
    except PermissionError as problem:
        error = f"no right to change {problem.filename}; run this as root"
    except (InstallError, SettingsError, OSError) as problem:
        error = str(problem)
    if as_json:
        changed = any(step.state in {"changed", "planned"} for step in steps.taken)
        taken = [asdict(step) for step in steps.taken]
        print(json.dumps({"ok": not error, "changed": changed, "error": error, "steps": taken}))
    elif error:
        typer.echo(f"onedock: {error}", err=True)
    if error:
        raise typer.Exit(1)


def _keep(_step: Step) -> None:
    """Leave it to the end."""


def _print(step: Step) -> None:
    state = typer.style(step.state.ljust(len("changed")), fg=_COLOURS[step.state])
    typer.echo(f"{state}  {step.name}" + (f": {step.detail}" if step.detail else ""))
    if step.diff and step.state == "planned":
        typer.echo(step.diff)
