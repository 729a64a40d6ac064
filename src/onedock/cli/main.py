"""``onedock``: status and log of the VMs, from the controller's socket."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from onedock.cli import config, install
from onedock.cli.client import ApiError, get_json, get_text, stream_json
from onedock.cli.show import log_line, overview, tree
from onedock.config.settings import SettingsError, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="What ONEDock does with the VMs of OpenNebula.")
install.register(app)
app.add_typer(config.app, name="config")
console = Console(highlight=False, soft_wrap=False)

Vm = Annotated[int | None, typer.Argument(help="Id of the VM in OpenNebula; without it, all.", min=0)]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@contextmanager
def _explained() -> Iterator[None]:
    """Show expected errors as one line, and end with status 1."""
    try:
        yield
    except (ApiError, SettingsError) as error:
        typer.echo(f"onedock: {error}", err=True)
        raise typer.Exit(1) from None
    except (BrokenPipeError, KeyboardInterrupt):
        raise typer.Exit(0) from None


@app.command()
def status(vm: Vm = None, as_json: AsJson = False) -> None:
    """Show all VMs as a table, or one VM as a tree: state, since when, and why."""
    with _explained():
        socket = load_settings().controller.api_socket
        if vm is not None:
            detail = get_json(socket, f"/vms/{vm}")
            print(json.dumps(detail)) if as_json else console.print(tree(detail, time.time()))
            return
        vms, health = get_json(socket, "/vms"), get_json(socket, "/health")
        if as_json:
            print(json.dumps({"vms": vms, "health": health}))
        else:
            console.print(overview(vms, health, time.time()))


@app.command()
def log(
    vm: Vm = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Lines from the past.", min=0, max=100_000)] = 200,
    as_json: AsJson = False,
) -> None:
    """Show what was done with a VM and why, oldest first."""
    with _explained():
        target = f"/log?limit={limit}" + (f"&vm={vm}" if vm is not None else "") + ("&follow" if follow else "")
        for line in stream_json(load_settings().controller.api_socket, target):
            if as_json:
                print(json.dumps(line), flush=True)
            else:
                console.print(log_line(line), soft_wrap=True)


@app.command()
def metrics() -> None:
    """Print the controller's metrics in Prometheus' format."""
    with _explained():
        sys.stdout.write(get_text(load_settings().controller.api_socket, "/metrics"))


@app.command()
def health(as_json: AsJson = False) -> None:
    """Say whether the controller serves and reaches its nodes; status 1 when something is wrong."""
    with _explained():
        answer = get_json(load_settings().controller.api_socket, "/health")
        problems = [
            f"node {node['name']}: {side}: {node[side]['error']}"
            for node in answer["nodes"]
            for side in ("engine", "agent")
            if not node[side]["ok"]
        ]
        if not answer["last_resync"]:
            problems.append("not compared with OpenNebula yet: is oned reachable?")
        print(json.dumps(answer) if as_json else "\n".join(problems) or "ok")
        if problems:
            raise typer.Exit(1)
