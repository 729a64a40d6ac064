"""Tables in the kernel: load, compare, count, remove. The calling thread must stand in the right namespace."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import structlog

from onedock.nodeside.agent.attributes import attributes, each_attribute
from onedock.nodeside.agent.firewall import nfnetlink
from onedock.nodeside.agent.firewall.attributes import without
from onedock.nodeside.agent.firewall.batch import Message, messages
from onedock.nodeside.agent.firewall.document import Ruleset, Table, text
from onedock.nodeside.agent.firewall.hits import Hits, go_on, of_counter, of_elements, together
from onedock.nodeside.agent.firewall.nfnetlink import Interrupted, Nftables, packed
from onedock.reconcilers.errors import TransientError

log = structlog.get_logger()

T = TypeVar("T")

# Attributes of linux/netfilter/nf_tables.h; the table is the first one of every object.
_TABLE = 1
_CHAIN, _CHAIN_OF_RULE = 3, 2
_SET_NAME, _ELEMENTS = 2, 3
_OBJECT_TYPE, _COUNTER = 3, (1).to_bytes(4)
_COUNTER_OF_ELEMENT = 7

_ATTEMPTS = 5


def load(ruleset: Ruleset) -> str:
    """Replace the tables; established flows go on, and counters of what stays. Returns the fingerprint.

    Raises TransientError: a NIC is gone or somebody else changes the rules.
    """
    before = counters(ruleset.tables)
    problem = transact(ruleset.text, before)
    if problem is not None and problem.errno == errno.EOPNOTSUPP and ruleset.unguarded is not None:
        _warn(str(problem))
        problem = transact(ruleset.unguarded, before)
    return proven(problem, fingerprint(ruleset.tables))


def proven(problem: OSError | None, loaded: str | None) -> str:
    """The fingerprint after a transaction. Raises TransientError when there was a problem or nothing is there."""
    if problem is not None:
        raise TransientError(f"nftables refuses the rules: {problem.strerror}; they are tried again") from problem
    if loaded is None:
        raise TransientError("rules vanished right after loading: something else on the node changes nftables")
    return loaded


def takes(ruleset: Ruleset) -> bool:
    """Whether the kernel would load it; nothing is loaded."""
    return transact(ruleset.text, keep=False) is None


@cache
def _warn(problem: str) -> None:
    """Once for the process: it is the same for every VM."""
    log.warning("raw frames of VMs pass their security groups: no egress hook in this kernel", error=problem)


def unload(tables: Iterable[Table]) -> None:
    """Remove the tables with everything in them; absent is success. Raises TransientError."""
    with Nftables() as kernel:
        there = [table for table in tables if head(kernel, table) is not None]
    if there and (problem := transact(text([], there))):
        raise TransientError(f"nftables does not remove rules: {problem.strerror}; it is tried again") from problem


def fingerprint(tables: Iterable[Table]) -> str | None:
    """A hash over everything in the tables but the values of counters; None when none of them is there.

    Raises TransientError when somebody keeps changing them.
    """
    tables = tuple(tables)
    return digest(undisturbed(lambda kernel: [_contents(kernel, table) for table in tables]))


def counters(tables: Iterable[Table]) -> tuple[Hits, ...]:
    """Counters in the order of the rules, then groups' rules by name; none of absent tables. Raises TransientError."""
    tables = tuple(tables)
    return undisturbed(lambda kernel: together(hit for table in tables for hit in _hits(kernel, table)))


def undisturbed(read: Callable[[Nftables], T]) -> T:
    """What was read, from the beginning when something changed meanwhile. TransientError: that does not end."""
    with Nftables() as kernel:
        return undisturbed_by(kernel, read)


def undisturbed_by(kernel: Nftables, read: Callable[[Nftables], T]) -> T:
    """The same with a socket that serves for more."""
    for _ in range(_ATTEMPTS):
        try:
            return read(kernel)
        except (Interrupted, FileNotFoundError):
            continue
    raise TransientError("rules change while they are read: something else on the node changes nftables; try again")


def _hits(kernel: Nftables, table: Table) -> Iterator[Hits]:
    family, name = table
    if head(kernel, table) is None:
        return
    yield from map(of_counter, kernel.dump(nfnetlink.GET_OBJECT, family, {_TABLE: name, _OBJECT_TYPE: _COUNTER}))
    sets = [_text(attributes(one)[_SET_NAME]) for one in kernel.dump(nfnetlink.GET_SET, family, {_TABLE: name})]
    rules = [hit for one in sets for hit in of_elements(one, _elements(kernel, table, one))]
    yield from sorted(rules, key=lambda hit: hit.key)


def _contents(kernel: Nftables, table: Table) -> list[bytes]:
    """The table itself, which counts its chains and sets, its rules with their chains, its sets with what is in them.

    Chains are asked for one by one: all tables' chains would come in one dump, thousands on a full node.
    """
    family, name = table
    if (itself := head(kernel, table)) is None:
        return []
    rules = list(kernel.dump(nfnetlink.GET_RULE, family, {_TABLE: name}))
    chains = dict.fromkeys(_text(attributes(rule)[_CHAIN_OF_RULE]) for rule in rules)
    found = [itself, *rules, *(kernel.get(nfnetlink.GET_CHAIN, family, {_TABLE: name, _CHAIN: one}) for one in chains)]
    sets = list(kernel.dump(nfnetlink.GET_SET, family, {_TABLE: name}))
    for one in sets:
        found += [one, *elements(kernel, table, _text(attributes(one)[_SET_NAME]))]
    return found


def elements(kernel: Nftables, table: Table, name: str) -> list[bytes]:
    """What is in a set, without what it counts. Sorted: a growing hash table changes their order by itself."""
    return sorted(without(one, _COUNTER_OF_ELEMENT) for one in _elements(kernel, table, name))


def _elements(kernel: Nftables, table: Table, name: str) -> list[bytes]:
    lists = kernel.dump(nfnetlink.GET_ELEMENTS, table[0], {_TABLE: table[1], _SET_NAME: name})
    return [
        element
        for part in lists
        for kind, value in each_attribute(part)
        if kind == _ELEMENTS
        for _, element in each_attribute(value)
    ]


def head(kernel: Nftables, table: Table) -> bytes | None:
    """The table itself."""
    family, name = table
    try:
        return kernel.get(nfnetlink.GET_TABLE, family, {_TABLE: name})
    except FileNotFoundError:
        return None


def digest(parts: list[list[bytes]]) -> str | None:
    """A hash of all of them; None when they are empty."""
    found = hashlib.sha256()
    for part in parts:
        for one in (b"table", *part):
            found.update(len(one).to_bytes(4) + one)
    return found.hexdigest()[:16] if any(parts) else None


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def transact(text: str, before: Iterable[Hits] = (), *, keep: bool = True) -> OSError | None:
    """Do all that the commands say, or nothing; without ``keep``, only try. Returns the first reason against it.

    What is counted goes on from ``before``.
    """
    commands = json.loads(text)["nftables"]
    go_on(commands, before)
    return refused(list(messages(commands)), keep=keep)


def refused(changes: Sequence[Message], *, keep: bool = True) -> OSError | None:
    """Make all changes at once, or none; without ``keep``, only try. Returns the first reason against it."""
    with Nftables() as kernel:
        problem = kernel.transact(packed(changes), keep=keep)
    if problem is None:
        return None
    which, number = problem
    about = changes[which - 1].about if which else "transaction"
    return OSError(number, f"{about}: {os.strerror(number)}")
