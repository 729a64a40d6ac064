"""What all commands share: the console, the common options, and errors as one line."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from onedock.cli.client import ApiError
from onedock.config.settings import SettingsError, load_settings

PIPED_WIDTH = 10_000
"""Columns when standard output is no terminal: programs get whole lines."""

Vm = Annotated[int | None, typer.Argument(help="Id of the VM in OpenNebula; without it, all.", min=0)]
OneVm = Annotated[int, typer.Argument(help="Id of the VM in OpenNebula.", min=0)]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]

console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def api_socket() -> Path:
    """Where the controller answers."""
    return load_settings().controller.api_socket


@contextmanager
def explained() -> Iterator[None]:
    """Show expected errors as one line, and end with status 1."""
    try:
        yield
    except (ApiError, SettingsError) as error:
        typer.echo(f"onedock: {error}", err=True)
        raise typer.Exit(1) from None
    except (BrokenPipeError, KeyboardInterrupt):
        raise typer.Exit(0) from None


def show_again(render: Callable[[], RenderableType], *, every_s: float) -> None:
    """Show something anew every ``every_s`` seconds, for ever: in place on a terminal, else one after the other."""
    if not console.is_terminal:
        while True:
            console.print(render())
            time.sleep(every_s)
    with Live(render(), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            live.update(render(), refresh=True)
