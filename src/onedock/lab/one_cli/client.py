"""OpenNebula's XML-RPC API as the commands use it: ONE_XMLRPC says where, ONE_AUTH names the file with the password."""

import os
import sys
import xmlrpc.client
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar
from xml.etree import ElementTree

DEFAULT_ENDPOINT = "http://localhost:2633/RPC2"
FAILURE = 255

P = ParamSpec("P")
R = TypeVar("R")


class CommandError(Exception):
    """The command cannot do what it is asked; the text is for the terminal."""


def call(method: str, *arguments: Any) -> Any:
    """The value of one call.

    Raises:
        CommandError: There is no session or no server, or the server refuses.
    """
    endpoint = os.environ.get("ONE_XMLRPC", DEFAULT_ENDPOINT)
    try:
        with xmlrpc.client.ServerProxy(endpoint) as server:
            answer: Any = getattr(server, method)(_session(), *arguments)
    except (OSError, xmlrpc.client.Error) as error:
        raise CommandError(f"OpenNebula does not answer at {endpoint}: {error}; check ONE_XMLRPC") from error
    if answer[0] is not True:
        raise CommandError(str(answer[1]))
    return answer[1]


def document(method: str, *arguments: Any) -> ElementTree.Element:
    """The XML document that a call answers.

    Raises:
        CommandError: As :func:`call`.
    """
    return ElementTree.fromstring(call(method, *arguments))  # noqa: S314 - the server is the one the user logs in to


def _session() -> str:
    path = Path(os.environ.get("ONE_AUTH", "~/.one/one_auth")).expanduser()
    try:
        return path.read_text().strip()
    except OSError as error:
        raise CommandError(f"no session: {path} cannot be read ({error.strerror}); set ONE_AUTH") from error


def number_of(name: str, what: str, pool: Callable[[], ElementTree.Element]) -> int:
    """The id of an object given by id or by name; only a name needs the pool.

    Raises:
        CommandError: No object has that name, or several have.
    """
    if name.isdigit():
        return int(name)
    found = [item.findtext("ID", "") for item in pool() if item.findtext("NAME") == name]
    if len(found) != 1:
        problem = "not found" if not found else f"is not unique (ids {', '.join(found)})"
        raise CommandError(f"{what} named {name} {problem}")
    return int(found[0])


def template_text(path: Path) -> str:
    """The text of a template file.

    Raises:
        CommandError: It cannot be read.
    """
    try:
        return path.read_text()
    except OSError as error:
        raise CommandError(f"template {path} cannot be read: {error.strerror}") from error


def show_created(number: int) -> None:
    """What every create prints."""
    print(f"ID: {number}")


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose CommandError goes to standard error, with exit code 255 as OpenNebula's commands have."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except CommandError as error:
            _fail(error)

    return run


def _fail(error: CommandError) -> NoReturn:
    print(error, file=sys.stderr)
    sys.exit(FAILURE)
