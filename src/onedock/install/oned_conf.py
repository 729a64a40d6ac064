"""What ONEDock needs in ``oned.conf`` and ``monitord.conf``, and how it gets in and out. Pure: text to text.

Protocol reference 2.6 (VM_MAD), 3.4 (TM_MAD_CONF), 5.2 (monitord.conf), 10 (all stanzas).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from onedock.install.block import Block, split
from onedock.install.template_syntax import Attribute, ConfError, Edit, Value, apply, parse

STORAGE = "onedock"
"""Name of transfer manager and datastore driver: that of their script directories."""
VMM, IM = "onedock-vmm", "onedock-im"

_OPTIONS = {
    "TM_MAD": {"-d": "--tm-types"},
    "DATASTORE_MAD": {"-d": "--ds-types", "-s": "--system-ds-types"},
}
"""Options of the stock drivers that list the names they serve."""

_TM_MAD_CONF = """TM_MAD_CONF = [
    NAME = "onedock", LN_TARGET = "NONE", CLONE_TARGET = "SYSTEM", SHARED = "YES",
    DS_MIGRATE = "NO", DS_LIVE_MIGRATE = "NO", DS_MIGRATE_SNAP = "NO",
    TM_MAD_SYSTEM = "ssh,shared,local,qcow2",
    LN_TARGET_SSH = "SYSTEM", CLONE_TARGET_SSH = "SYSTEM", DISK_TYPE_SSH = "FILE",
    LN_TARGET_SHARED = "SYSTEM", CLONE_TARGET_SHARED = "SYSTEM", DISK_TYPE_SHARED = "FILE",
    LN_TARGET_LOCAL = "SYSTEM", CLONE_TARGET_LOCAL = "SYSTEM", DISK_TYPE_LOCAL = "FILE",
    LN_TARGET_QCOW2 = "SYSTEM", CLONE_TARGET_QCOW2 = "SYSTEM", DISK_TYPE_QCOW2 = "FILE"
]
"""
_DS_MAD_CONF = """DS_MAD_CONF = [
    NAME = "onedock", REQUIRED_ATTRS = "", PERSISTENT_ONLY = "NO", MARKETPLACE_ACTIONS = ""
]
"""


@dataclass(frozen=True, slots=True)
class Driver:
    """What the stanzas say of the two drivers."""

    name: str = "onedock"
    """Of VM_MAD and IM_MAD: what a host names."""
    vmm_arguments: str = ""
    im_arguments: str = ""

    def vm_mad(self) -> str:
        """The stanza of oned.conf."""
        return (
            f'VM_MAD = [\n    NAME = "{self.name}", SUNSTONE_NAME = "ONEDock", EXECUTABLE = "{VMM}",\n'
            f'    ARGUMENTS = "{self.vmm_arguments}", TYPE = "xml", KEEP_SNAPSHOTS = "no",\n'
            '    LIVE_RESIZE = "no", COLD_NIC_ATTACH = "no", THREADS = 0\n]\n'
        )

    def im_mad(self) -> str:
        """The stanza of monitord.conf."""
        return (
            f'IM_MAD = [\n    NAME = "{self.name}", SUNSTONE_NAME = "ONEDock", EXECUTABLE = "{IM}",\n'
            f'    ARGUMENTS = "{self.im_arguments}", THREADS = 0\n]\n'
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The new text, and what the admin should know of how it came about."""

    text: str
    notes: tuple[str, ...] = ()


def add_to_oned(text: str, driver: Driver) -> Result:
    """oned.conf with ONEDock registered. Raises ConfError, with nothing to undo, when that is not safe."""
    parts = split(text)
    attributes = parse(parts.outside)
    ours = parts.block.lists if parts.block else ()
    lists, edits = [], []
    for name, options in _OPTIONS.items():
        for option, found in _lists(_sole(attributes, name), options):
            if STORAGE not in found.text.split(","):
                edits.append(Edit(found.end, found.end, f",{STORAGE}"))
                lists.append(option)
            elif option in ours:
                lists.append(option)
    stanzas, notes = _missing(
        attributes,
        ("VM_MAD", driver.name, driver.vm_mad(), VMM),
        ("TM_MAD_CONF", STORAGE, _TM_MAD_CONF, None),
        ("DS_MAD_CONF", STORAGE, _DS_MAD_CONF, None),
    )
    return Result(_with_block(text, stanzas, lists, edits), notes)


def add_to_monitord(text: str, driver: Driver) -> Result:
    """monitord.conf with ONEDock registered. Raises ConfError, with nothing to undo, when that is not safe."""
    attributes = parse(split(text).outside)
    stanzas, notes = _missing(attributes, ("IM_MAD", driver.name, driver.im_mad(), IM))
    return Result(_with_block(text, stanzas, [], []), notes)


def remove(text: str) -> str:
    """Either file without what was added by the functions above. Raises ConfError when that is not safe."""
    parts = split(text)
    if parts.block is None:
        return text
    edits = []
    if parts.block.lists:
        attributes = parse(parts.outside)
        for name, options in _OPTIONS.items():
            for option, found in _lists(_sole(attributes, name), options):
                names = found.text.split(",")
                if option in parts.block.lists and STORAGE in names:
                    last = len(names) - 1 - names[::-1].index(STORAGE)
                    edits.append(Edit(found.start, found.end, ",".join(names[:last] + names[last + 1 :])))
    return apply(parts.outside, edits)


def in_use(text: str, name: str) -> str | None:
    """Where a file registers the drivers outside of the installer's block: ``VM_MAD onedock (line 7)``."""
    for one in parse(split(text).outside):
        if one.name in {"VM_MAD", "IM_MAD"} and one.pairs is not None and _named(one, name):
            return f"{one.name} {name} (line {one.line})"
    return None


def _with_block(text: str, stanzas: Iterable[str], lists: Iterable[str], edits: Iterable[Edit]) -> str:
    parts = split(text)
    body, outside = "".join(stanzas), parts.outside
    lists = tuple(lists)
    if not body and not lists:
        return outside
    ended = not outside or outside.endswith("\n")
    block = Block(body, lists, unended=parts.block.unended if parts.block else not ended)
    # Amid a file, the line end before the block has become the file's own.
    written = block.text(parts.newline)
    if block.unended and parts.at < len(outside):
        written = written.removeprefix(parts.newline)
    return apply(outside, [*edits, Edit(parts.at, parts.at, written)])


def _missing(
    attributes: Iterable[Attribute], *wanted: tuple[str, str, str, str | None]
) -> tuple[list[str], tuple[str, ...]]:
    """The stanzas that no attribute stands for, and notes on the others.

    ``wanted``: attribute, NAME, stanza, and the EXECUTABLE that one of this NAME must have.
    """
    stanzas, notes = [], []
    for attribute, name, stanza, executable in wanted:
        there = [one for one in attributes if one.name == attribute and _named(one, name)]
        if not there:
            stanzas.append(stanza)
            continue
        if len(there) > 1:
            raise ConfError(f"line {there[1].line}: a second {attribute} is named {name}; remove one of them first")
        found = there[0].get("EXECUTABLE") or ""
        if executable and found.rpartition("/")[2] != executable:
            raise ConfError(
                f"line {there[0].line}: {attribute} {name} has EXECUTABLE {found!r}, not {executable!r}; "
                "remove that stanza first, or choose another --driver-name"
            )
        notes.append(f"line {there[0].line}: {attribute} {name} is there already and stays as it is")
    return stanzas, tuple(notes)


def _named(attribute: Attribute, name: str) -> bool:
    return (attribute.get("NAME") or "").casefold() == name.casefold()


def _sole(attributes: Iterable[Attribute], name: str) -> Attribute:
    found = [one for one in attributes if one.name == name]
    if not found:
        raise ConfError(f"there is no {name}; is this the configuration of an OpenNebula 7?")
    if len(found) > 1:
        raise ConfError(
            f"line {found[1].line}: {name} is there twice, and oned uses only one; remove one of them first"
        )
    return found[0]


def _lists(stanza: Attribute, options: dict[str, str]) -> Iterator[tuple[str, Value]]:
    """Each option's list in the ARGUMENTS of a stock driver, under a name such as ``TM_MAD -d``."""
    where = f"line {stanza.line}: {stanza.name}"
    arguments = stanza.find("ARGUMENTS")
    if arguments is None or not arguments.quoted:
        raise ConfError(f"{where} has no ARGUMENTS in quotes; write its drivers there, after -d")
    words = [(word[0], arguments.start + word.start()) for word in re.finditer(r"\S+", arguments.text)]
    for short, long in options.items():
        found = list(_values_of(short, long, words))
        if len(found) != 1:
            raise ConfError(f"{where}: ARGUMENTS has {short} {len(found)} times; write the drivers after one {short}")
        text, start = found[0]
        if not text or text.startswith("-") or "" in text.split(","):
            raise ConfError(f"{where}: {short} is not followed by a list of names with a comma between; mend it first")
        yield f"{stanza.name} {short}", Value(text, start, start + len(text), True)


def _values_of(short: str, long: str, words: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    for number, (word, start) in enumerate(words):
        if word in {short, long}:
            yield words[number + 1] if number + 1 < len(words) else ("", start)
        elif word.startswith(f"{long}="):
            yield word[len(long) + 1 :], start + len(long) + 1
        elif word.startswith(short):
            yield word[len(short) :], start + len(short)
