"""The text of a resolv.conf: what the engine wrote, what we make of it, and how the two are told apart. Pure.

A text of ours begins with a hash of all that follows, and has the engine's within, as comments. So it says by itself
whether somebody has changed it, and what it was made from; nothing has to be remembered that could be lost.
"""

import hashlib
from collections.abc import Iterator

from onedock.reconcilers.resolver import Names, is_domain, is_server

_SERVERS, _DOMAINS = 16, 32
"""Of each, at most: the C libraries ask three servers, and look in six domains or in all of them."""
_MARK = "# ONEDock "
_NOTE = "# From the VM's networks and leases. Whoever changes this file keeps it as it is until the VM restarts."
_QUOTE = "#|"
_KEYWORDS = frozenset({"nameserver", "search", "domain"})


def engines_own(text: str, engine_hash: str) -> str | None:
    """What the engine wrote when it made the file; None: somebody else has changed it since.

    Args:
        text: of the file.
        engine_hash: what the engine noted of the text that it wrote, ``sha256:…``.
    """
    bare = text.rstrip("\n")
    # An agent that was killed while it wrote a shorter text has left empty lines at the end.
    for one in dict.fromkeys((text, f"{bare}\n", bare)):
        if f"sha256:{_hash(one)}" == engine_hash.strip():
            return one
        first, _, rest = one.partition("\n")
        if first == _MARK + _hash(rest):
            return "\n".join(line.removeprefix(_QUOTE) for line in rest.split("\n") if line.startswith(_QUOTE))
    return None


def is_given(given: Names, wanted: Names) -> bool:
    """Whether the engine writes what is wanted by itself, when it was ``given`` that."""
    return given == Names(wanted.servers[:_SERVERS], wanted.search[:_DOMAINS])


def compose(original: str, given: Names, wanted: Names) -> str:
    """The text with the names that are wanted now; the engine's own when that has the same.

    Where nothing is wanted, what the engine was not ``given`` stays: it took that from the node.
    """
    before = names_in(original)
    names = Names(
        wanted.servers[:_SERVERS] or (() if given.servers else before.servers),
        wanted.search[:_DOMAINS] or (() if given.search else before.search),
    )
    if names == before:
        return original
    lines = [
        _NOTE,
        *(_QUOTE + line for line in original.split("\n")),
        *([f"search {' '.join(names.search)}"] if names.search else []),
        *(f"nameserver {server}" for server in names.servers),
        *_other_lines(original),
    ]
    body = "\n".join(lines) + "\n"
    return f"{_MARK}{_hash(body)}\n{body}"


def names_in(text: str) -> Names:
    """What a resolver takes from the text: of several lists of domains, the last one."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    for words in map(str.split, text.splitlines()):
        match words:
            case ["nameserver", server, *_] if is_server(server):
                servers.append(server)
            case [("search" | "domain"), *domains]:
                search = tuple(filter(is_domain, domains))
    return Names(tuple(servers), search)


def _other_lines(original: str) -> Iterator[str]:
    """``options`` and their like."""
    for line in original.splitlines():
        words = line.split()
        if words and words[0] not in _KEYWORDS and words[0][0] not in "#;":
            yield line


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("latin-1")).hexdigest()
