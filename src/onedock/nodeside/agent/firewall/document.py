"""A transaction of nftables in its JSON form (libnftables-json(5)), and the expressions that the rules use."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from onedock.reconcilers.model import VmId

Expression = dict[str, Any]
Table = tuple[str, str]
"""Family and name."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a VM has of the table that all VMs share: everything that bears the names of these NICs."""

    vm: VmId
    nics: frozenset[int]
    """Indices."""


@dataclass(frozen=True)
class Ruleset:
    """What ``nft -j -f -`` is given: replaces all of its tables, or its part, at once, or does nothing."""

    tables: tuple[Table, ...]
    """Those that are replaced as a whole."""
    text: str
    part: Part | None = None
    unguarded: str | None = None
    """The same without the chains at egress, for kernels before 5.16; None when it has none anyway."""

    def __str__(self) -> str:
        """The digest: in logs, the text would be too much."""
        return self.digest

    @cached_property
    def digest(self) -> str:
        """A hash of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


class Document:
    """Commands for one table, in order; the table is there first, and empty unless it is shared."""

    def __init__(self, family: str, name: str, *, shared: bool = False) -> None:
        self.table = (family, name)
        self.counters: set[str] = set()
        """Those that rules count with."""
        self._place = {"family": family, "table": name}
        first, gone = _emptied(self.table)
        self.commands: list[Expression] = [first] if shared else [first, gone, first]

    @cached_property
    def text(self) -> str:
        """The commands in JSON, when all of them are there."""
        return _commands(self.commands)

    def base_chain(self, name: str, hook: str, priority: int, device: str | None = None) -> None:
        """A chain that packets enter; what reaches its end passes."""
        bound = {} if device is None else {"dev": device}
        self._add("chain", name=name, type="filter", hook=hook, prio=priority, policy="accept", **bound)

    def chain(self, name: str) -> None:
        """A chain that rules lead to."""
        self._add("chain", name=name)

    def add_set(self, name: str, kind: list[str], elements: list[Any], *flags: str, counted: bool = False) -> None:
        """A named set of values of one type, or of several side by side; without elements, nothing is in it.

        ``counted``: each element counts the packets that were found to be it.
        """
        optional: Expression = {"flags": list(flags)} if flags else {}
        if counted:
            optional["stmt"] = [{"counter": None}]
        if elements:
            optional["elem"] = elements
        self._add("set", name=name, type=kind if len(kind) > 1 else kind[0], **optional)

    def rule(self, chain: str, *expressions: Expression, count: str | None = None) -> None:
        """A rule at the end of a chain: conditions, then the verdict; ``count`` names the counter of its hits.

        Counters are objects of their own: rules may share one, and what a rule's dump shows does not change with
        every packet.
        """
        *conditions, verdict = expressions
        counted = [] if count is None else [{"counter": count}]
        if count is not None and count not in self.counters:
            self.counters.add(count)
            self._add("counter", name=count)
        self._add("rule", chain=chain, expr=[*conditions, *counted, verdict])

    def without(self, what: str, name: str, **kind: Any) -> None:
        """Leave no such chain, set or counter; ``kind`` is what an addition says besides, as the type of a set."""
        self._add(what, name=name, **kind)
        self.commands.append({"delete": {what: {**self._place, "name": name}}})

    def _add(self, what: str, **values: Any) -> None:
        self.commands.append({"add": {what: {**self._place, **values}}})


def text(documents: Iterable[Document], absent: Iterable[Table] = ()) -> str:
    """The JSON of one transaction, which removes other tables besides."""
    removals = [command for table in absent for command in _emptied(table)]
    return _text([*(document.text for document in documents), _commands(removals)])


def _text(parts: Iterable[str]) -> str:
    return f'{{"nftables":[{",".join(filter(None, parts))}]}}'


def _commands(commands: list[Expression]) -> str:
    return json.dumps(commands, separators=(",", ":"))[1:-1]


def _emptied(table: Table) -> tuple[Expression, Expression]:
    """Commands that leave no such table. Deleting what does not exist would fail, adding what exists does not."""
    named = {"table": {"family": table[0], "name": table[1]}}
    return {"add": named}, {"delete": named}


ACCEPT: Expression = {"accept": None}
DROP: Expression = {"drop": None}
RETURN: Expression = {"return": None}


def goto(chain: str) -> Expression:
    """Go on in another chain, and do not come back."""
    return {"goto": {"target": chain}}


def jump(chain: str) -> Expression:
    """Go on in another chain, and come back from its end."""
    return {"jump": {"target": chain}}


def meta(key: str) -> Expression:
    """Something the kernel knows about a packet."""
    return {"meta": {"key": key}}


def field(protocol: str, name: str) -> Expression:
    """A header's field, such as ``ip saddr``. It implies that the packet has the header."""
    return {"payload": {"protocol": protocol, "field": name}}


def raw(base: str, offset: int, length: int) -> Expression:
    """Bits from the beginning of the link's (``ll``), network (``nh``) or transport (``th``) header."""
    return {"payload": {"base": base, "offset": offset, "len": length}}


ETHER_TYPE = raw("ll", 96, 16)
"""What a frame is. ``meta protocol`` is what the sender of a raw one says, and of a tagged one what is inside."""


def is_(left: Expression, right: Any) -> Expression:
    """The value is the one given, or in the set ``@name``, or one of a list."""
    return {"match": {"op": "==", "left": left, "right": _choice(right)}}


def is_not(left: Expression, right: Any) -> Expression:
    """The value is another one, or not in the set."""
    return {"match": {"op": "!=", "left": left, "right": _choice(right)}}


def between(first: int, last: int) -> Expression:
    """A range of values, both included."""
    return {"range": [first, last]}


def set_to(what: Expression, value: int) -> Expression:
    """Write something that can be written, such as a mark."""
    return {"mangle": {"key": what, "value": value}}


def _choice(right: Any) -> Any:
    return {"set": right} if isinstance(right, list) else right
