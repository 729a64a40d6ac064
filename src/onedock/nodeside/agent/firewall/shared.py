"""The table that the filters of all VMs share: one VM's part of it. The calling thread stands in the agent's namespace.

Transactions of several VMs may run at a time: each names what is its own.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

from onedock.nodeside.agent.attributes import attributes
from onedock.nodeside.agent.firewall import nfnetlink
from onedock.nodeside.agent.firewall.attributes import without
from onedock.nodeside.agent.firewall.batch import messages
from onedock.nodeside.agent.firewall.document import Document, Part, Ruleset, text
from onedock.nodeside.agent.firewall.hits import Hits, of_counter
from onedock.nodeside.agent.firewall.host import CHAINS, COUNTERS, SETS, TABLE, chain_name, nothing_of, owner
from onedock.nodeside.agent.firewall.kernel import (
    digest,
    elements,
    head,
    proven,
    refused,
    transact,
    undisturbed,
    undisturbed_by,
)
from onedock.nodeside.agent.firewall.nfnetlink import Nftables, packed
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Nic, VmId

# Attributes of linux/netfilter/nf_tables.h; the table is the first one of every object.
_TABLE, _TABLE_FLAGS, _TABLE_USE = 1, 2, 3
_CHAIN, _CHAIN_OF_RULE, _SET_NAME = 3, 2, 2
_CHAIN_HANDLE, _RULE_HANDLE, _RULE_POSITION, _SET_HANDLE = 2, 3, 6, 16
"""Numbers that the kernel never gives twice; all else is the same when the same is loaded again."""
_OBJECT_NAME, _OBJECT_TYPE = 2, 3
_COUNTER = (1).to_bytes(4)

_FAMILY, _NAME = TABLE


_AT_ONCE = 100
"""VMs of a transaction: one that cannot be done is tried again in halves."""


@dataclass(frozen=True, slots=True)
class PartLoaded:
    """What is remembered of a transaction."""

    fingerprint: str
    again: bytes
    """What was said to the kernel, compressed: to compile it takes longer than all else."""


class _Loading:
    """The empty table goes only while nobody fills it: nftables cannot be told to remove what is empty."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._number = 0

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Somebody fills the table."""
        with self._lock:
            self._number += 1
        try:
            yield
        finally:
            with self._lock:
                self._number -= 1

    def otherwise(self, do: Callable[[], None]) -> None:
        """Do it if nobody fills the table, and let nobody begin meanwhile."""
        with self._lock:
            if not self._number:
                do()


_LOADING = _Loading()


def load(ruleset: Ruleset, before: Iterable[int] = ()) -> PartLoaded:
    """Replace the VM's part, from that of the NICs ``before``.

    Raises TransientError: a NIC is gone or somebody else changes the rules.
    """
    assert ruleset.part is not None
    gone = replace(ruleset.part, nics=frozenset(before) - ruleset.part.nics)
    removed = messages(nothing_of(gone).commands) if gone.nics else ()
    changes = list(messages(json.loads(ruleset.text)["nftables"]))
    with _LOADING.going_on():
        _put_in_force()
        found = proven(refused([*removed, *changes]), fingerprint(ruleset.part))
    return PartLoaded(found, zlib.compress(packed(changes), 1))


def load_again(parts: Mapping[VmId, bytes]) -> Iterator[VmId]:
    """Do what loaded these parts, in few transactions; yields whose is there, others' NICs are gone."""
    whole = tuple(parts.items())
    with _LOADING.going_on():
        for first in range(0, len(whole), _AT_ONCE):
            yield from _together(whole[first : first + _AT_ONCE])


def _together(parts: Sequence[tuple[VmId, bytes]]) -> Iterator[VmId]:
    # Each refers to its sets by their names: so it does no harm that their numbers are those of other parts, too.
    with Nftables() as kernel:
        problem = kernel.transact(b"".join(zlib.decompress(changes) for _, changes in parts))
    half = len(parts) // 2
    if problem is None:
        yield from (vm for vm, _ in parts)
    elif half:
        yield from _together(parts[:half])
        yield from _together(parts[half:])


def unload(part: Part) -> None:
    """Remove the VM's part, and the table with the last one; absent is success. Raises TransientError."""
    if _uses():
        _put_in_force()
        _change(text([nothing_of(part)]))
    _LOADING.otherwise(_remove_empty)


def fingerprint(part: Part) -> str | None:
    """A hash over all of the VM's part but the values of counters; None when none of it is there.

    Sets without a name are not looked at: the kernel lets nobody change them. Raises TransientError when somebody
    keeps changing it.
    """
    return digest(undisturbed(lambda kernel: _contents(kernel, part)))


def harmed(loaded: Iterable[tuple[Part, str]]) -> Iterator[VmId]:
    """Whose part has another fingerprint now; nobody whose part is changing."""
    with Nftables() as kernel:
        for part, expected in loaded:
            with suppress(TransientError):
                if digest(undisturbed_by(kernel, partial(_contents, part=part))) != expected:
                    yield part.vm


def counters(vm: VmId, nics: Iterable[Nic]) -> tuple[Hits, ...]:
    """The NICs' counters, in the order of the rules, by the names of their links."""
    with Nftables() as kernel:
        return tuple(hit for nic in nics for hit in _hits(kernel, vm, nic))


def left() -> dict[VmId, frozenset[int]]:
    """The NICs that the table has something of, by VM. Raises TransientError."""
    found: dict[VmId, set[int]] = defaultdict(set)
    for name in undisturbed(_names):
        if owned := owner(name):
            found[owned[0]].add(owned[1])
    return {vm: frozenset(nics) for vm, nics in found.items()}


def _contents(kernel: Nftables, part: Part) -> list[list[bytes]]:
    """What is there of each NIC, and whether the table is in force; nothing when nothing is there."""
    found = [list(_of_nic(kernel, chain_name(part.vm, index))) for index in sorted(part.nics)]
    if not any(found) or (table := head(kernel, TABLE)) is None:
        return []
    return [[attributes(table).get(_TABLE_FLAGS, b"")], *found]


def _of_nic(kernel: Nftables, nic: str) -> Iterator[bytes]:
    for chain in (nic + one for one in CHAINS):
        with suppress(FileNotFoundError):
            yield without(kernel.get(nfnetlink.GET_CHAIN, _FAMILY, {_TABLE: _NAME, _CHAIN: chain}), _CHAIN_HANDLE)
            for rule in kernel.dump(nfnetlink.GET_RULE, _FAMILY, {_TABLE: _NAME, _CHAIN_OF_RULE: chain}):
                yield without(rule, _RULE_HANDLE, _RULE_POSITION)
    for name in (nic + one for one in SETS):
        with suppress(FileNotFoundError):
            yield without(kernel.get(nfnetlink.GET_SET, _FAMILY, {_TABLE: _NAME, _SET_NAME: name}), _SET_HANDLE)
            yield from elements(kernel, TABLE, name)


def _hits(kernel: Nftables, vm: VmId, nic: Nic) -> Iterator[Hits]:
    for rule in COUNTERS:
        name = f"{chain_name(vm, nic.index)}.{rule}"
        with suppress(FileNotFoundError):
            wanted: dict[int, str | bytes] = {_TABLE: _NAME, _OBJECT_NAME: name, _OBJECT_TYPE: _COUNTER}
            yield replace(of_counter(kernel.get(nfnetlink.GET_OBJECT, _FAMILY, wanted)), nic=nic.host_name)


def _names(kernel: Nftables) -> list[str]:
    """Of all chains of the family, and of the table's sets and counters."""
    kinds = ((nfnetlink.GET_CHAIN, _CHAIN), (nfnetlink.GET_SET, _SET_NAME), (nfnetlink.GET_OBJECT, _OBJECT_NAME))
    found: list[str] = []
    if head(kernel, TABLE) is None:
        return found
    for what, name in kinds:
        for one in kernel.dump(what, _FAMILY, {_TABLE: _NAME}):
            values = attributes(one)
            if values[_TABLE] == _NAME.encode() + b"\0":
                found.append(values[name].rstrip(b"\0").decode())
    return found


def _put_in_force() -> None:
    """Undo what ``flags dormant`` does. The kernel takes no chains in the same transaction."""
    with Nftables() as kernel:
        table = head(kernel, TABLE)
    if table is not None and any(attributes(table).get(_TABLE_FLAGS, b"")):
        _change(text([Document(*TABLE, shared=True)]))


def _remove_empty() -> None:
    if _uses() == 0:
        _change(text([], [TABLE]))


def _change(transaction: str) -> None:
    if problem := transact(transaction):
        raise TransientError(f"nftables refuses to change rules: {problem.strerror}; it is tried again") from problem


def _uses() -> int | None:
    """Number of chains, sets and counters in the table; None when there is no table."""
    with Nftables() as kernel:
        table = head(kernel, TABLE)
    return int.from_bytes(attributes(table)[_TABLE_USE]) if table is not None else None
