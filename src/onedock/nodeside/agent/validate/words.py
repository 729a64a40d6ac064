"""Names, numbers and addresses of a request."""

import re
from collections.abc import Iterable

from onedock.nodeside.agent.parsed import ip_address, ip_interface, ip_network
from onedock.reconcilers.errors import TerminalError

_LINK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,14}")
_RESERVED = frozenset({"all", "default", "lo"})
"""Names of directories in /proc/sys/net/*/conf, or of the loopback: they are never a NIC or bridge."""


class InvalidRequestError(TerminalError):
    """The request is malformed, whatever the state of the node."""


def check_link_name(where: str, field: str, name: str) -> None:
    """Raise InvalidRequestError unless a link may have this name."""
    if not _LINK_NAME.fullmatch(name) or name in _RESERVED:
        raise InvalidRequestError(
            f"{where}: {field} {name[:40]!r} is no name for a link;"
            " use 1 to 15 letters, digits or _.@+- beginning with a letter, digit or _"
        )


def check_number(where: str, field: str, number: int, allowed: range) -> None:
    """Raise InvalidRequestError unless the number is allowed."""
    if number not in allowed:
        raise InvalidRequestError(
            f"{where}: {field} {number} is impossible; it must be from {allowed.start} to {allowed.stop - 1}"
        )


def check_count(where: str, what: str, count: int, most: int) -> None:
    """Raise InvalidRequestError when there are too many of something."""
    if count > most:
        raise InvalidRequestError(f"{where}: {count} {what} are too many; at most {most} are possible")


def check_unique(field: str, values: Iterable[object]) -> None:
    """Raise InvalidRequestError when two NICs have the same."""
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise InvalidRequestError(f"two NICs have the same {field} {value!r}; give each its own")
        seen.add(value)


def version_of_interface(where: str, address: str) -> int:
    """4 or 6. Raises InvalidRequestError unless it is a unicast address with prefix."""
    try:
        parsed = ip_interface(address)
    except ValueError:
        parsed = None
    if parsed is None or "/" not in address or "%" in address or parsed.is_multicast or parsed.is_unspecified:
        raise InvalidRequestError(f"{where}: {address[:60]!r} is no address with prefix; use a form like 10.0.0.7/24")
    return parsed.version


def version_of_address(where: str, what: str, address: str, *, multicast: bool = False) -> int:
    """4 or 6. Raises InvalidRequestError unless it is a unicast address, or a multicast one if asked for."""
    try:
        parsed = ip_address(address)
    except ValueError:
        parsed = None
    if parsed is None or "%" in address or parsed.is_multicast is not multicast or parsed.is_unspecified:
        form = "239.0.0.7" if multicast else "10.0.0.1"
        raise InvalidRequestError(f"{where}: {address[:60]!r} is no address of {what}; use a form like {form}")
    return parsed.version


def version_of_network(where: str, destination: str) -> int:
    """4 or 6. Raises InvalidRequestError unless it is the network of a route."""
    try:
        parsed = ip_network(destination, strict=False)
    except ValueError:
        parsed = None
    if parsed is None or "%" in destination or parsed.is_multicast or parsed.prefixlen == 0:
        raise InvalidRequestError(
            f"{where}: {destination[:60]!r} is no destination of a route; use a form like 10.8.0.0/16"
        )
    return parsed.version
