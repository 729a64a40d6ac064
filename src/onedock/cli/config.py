"""``onedock config``: whether the settings are right, what they are, and what there is to set."""

import json
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from onedock.config import reference as page
from onedock.config.locate import line_of, parse, source_of, suggestion
from onedock.config.settings import SettingsError, load_settings, settings_file

app = typer.Typer(no_args_is_help=True, help="The settings: check, show, explain.")


@app.command()
def check() -> None:
    """Say what is wrong with the settings: line, cause, remedy; status 1 then."""
    problems = list(_problems())
    for problem in problems:
        typer.echo(f"onedock: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{settings_file()} is right" if settings_file().exists() else "no file, all defaults: that is right")


@app.command()
def show(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Print the settings in effect, each with where it comes from."""
    try:
        values = load_settings().model_dump(mode="json")
    except SettingsError:
        for problem in _problems():
            typer.echo(f"onedock: {problem}", err=True)
        raise typer.Exit(1) from None
    text = _text()
    rows = [
        (path, value, source_of(path, parse(text), dict(os.environ)), line_of(text, path))
        for path, value in _leaves(values)
    ]
    if as_json:
        listed = [{"name": ".".join(path), "value": value, "source": source} for path, value, source, _ in rows]
        print(json.dumps(listed))
        return
    section: tuple[str, ...] | None = None
    for path, value, source, line in rows:
        if path[:-1] != section:
            section = path[:-1]
            typer.echo(f"\n[{'.'.join(section)}]" if section else "")
        written = json.dumps(value) if value is not None else "(unset)"
        where = f"{settings_file()}:{line}" if source == "file" else source
        typer.echo(f"{path[-1]} = {written}".ljust(56) + f"  # {where}")


@app.command()
def reference() -> None:
    """Print the page of all settings: name, default, meaning."""
    sys.stdout.write(page.document())


def _problems() -> Iterator[str]:
    """One line for each thing that is wrong."""
    try:
        load_settings()
    except SettingsError as error:
        if not isinstance(error.__cause__, ValidationError):
            yield str(error)
            return
        text = _text()
        for item in error.__cause__.errors():
            yield _problem(item, text)


def _problem(item: Any, text: str) -> str:
    path = tuple(str(part) for part in item["loc"])
    source = source_of(path[:2] if path[0] != "nodes" else path[:3], parse(text), dict(os.environ))
    line = line_of(text, path)
    where = (
        source if source.upper().startswith("ONEDOCK_") else f"{settings_file()}:{line}" if line else settings_file()
    )
    name = ".".join(path)
    if item["type"] == "extra_forbidden":
        return f"{where}: {name} does not exist; {suggestion(path)}".removesuffix("; ")
    given = json.dumps(item["input"], default=str)
    return f"{where}: {name} = {given[:60]}: {item['msg'][:1].lower()}{item['msg'][1:]}; see `onedock config reference`"


def _text() -> str:
    try:
        return settings_file().read_text()
    except (OSError, ValueError):
        return ""


def _leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value
