"""Transfer manager commands as values: script invocations, and TM_COMMAND lines of driver messages. Pure.

What each command means for a VM is decided by the controller. The arguments are those of the protocol
reference 3.2. They are blank separated without quoting, so a SOURCE with blanks spreads over several of them:
it is what is left between the others. The suffix of a transfer mode (``clone.ssh``) changes none of them.
"""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import NodeName, VmId

_DISK = re.compile(r"disk\.([0-9]{1,9})")
_ACTION = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_-]+)?")
_TM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_UNSUPPORTED = frozenset({
    "cpds", "mkimage", "mkswap", "resize", "snap_create", "snap_create_live", "snap_revert", "snap_delete",
    "prebackup", "prebackup_live", "postbackup", "postbackup_live",
})  # fmt: skip
"""Those that end with the ids of VM and datastore, as most do."""
_MIGRATIONS = frozenset({"premigrate", "postmigrate", "failmigrate", "migrate"})
_ACTIONS = frozenset({"clone", "ln", "delete", "mv", "mvds", "context", "restore", "monitor"})
_ACTIONS |= _UNSUPPORTED | _MIGRATIONS


@dataclass(frozen=True, slots=True)
class Location:
    """A path on a host; both as OpenNebula names them, doubled slashes removed."""

    host: NodeName
    path: str

    @property
    def disk_id(self) -> int | None:
        """DISK_ID when the path is that of a disk; None for a VM's directory or another file in it."""
        match = _DISK.fullmatch(posixpath.basename(self.path))
        return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Clone:
    """Bring an image to a VM, as its own copy (``clone``) or a persistent one (``ln``)."""

    source: str
    """SOURCE itself when it has a colon of its own, else ``FE:SOURCE``."""
    target: Location
    vm: VmId


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a disk, or the VM's whole directory."""

    target: Location
    vm: VmId


@dataclass(frozen=True, slots=True)
class Move:
    """Move a disk, or the VM's directory, to another host or path. Equal places mean nothing to do."""

    source: Location
    target: Location
    vm: VmId


@dataclass(frozen=True, slots=True)
class MoveToDatastore:
    """Bring a persistent image back into its datastore."""

    vm: VmId


@dataclass(frozen=True, slots=True)
class Context:
    """Make the context disk."""

    vm: VmId


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Disks of a VM's own, snapshots, migrations, backups: what ONEDock does not do to a container."""

    action: str
    vm: VmId


@dataclass(frozen=True, slots=True)
class Monitor:
    """Report the size of a shared system datastore."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An action that this version of ONEDock has never heard of."""


Transfer = Clone | Delete | Move | MoveToDatastore | Context | Unsupported | Monitor | Unknown


@dataclass(frozen=True, slots=True)
class TmCommand:
    """One line of a TM_COMMAND: the script ``<tm>/<action>`` and its arguments."""

    action: str
    """Lower case, as the script's file is named, with the suffix of a transfer mode: ``delete.ssh``."""
    tm: str
    argv: tuple[str, ...]


def parse_transfer(action: str, argv: Sequence[str]) -> Transfer:
    """Read one script invocation. Raises TerminalError when a known action has unexpected arguments."""
    name = action.partition(".")[0]
    if name not in _ACTIONS:
        return Unknown()
    try:
        return _parse(name, list(argv))
    except ValueError as error:
        raise TerminalError(
            f"transfer command {action} has unexpected arguments: {' '.join(argv)[:200]!r}; "
            "is this OpenNebula of another version?"
        ) from error


def _parse(action: str, argv: list[str]) -> Transfer:
    match argv:
        case [*_, target, vm, ds] if action in {"clone", "ln"} and (source := " ".join(argv[:-3])):
            return Clone(source, _location(target), _vm(vm, ds))
        case [target, vm, ds] if action == "delete":
            return Delete(_location(target), _vm(vm, ds))
        case [origin, target, vm, ds] if action == "mv":
            return Move(_location(origin), _location(target), _vm(vm, ds))
        case [_disk, _source, *_, vm, ds] if action == "mvds":
            return MoveToDatastore(_vm(vm, ds))
        case [*_files, _target, vm, ds] if action == "context":
            return Context(_vm(vm, ds))
        case [_directory, vm, _image, _increment, _disk] if action == "restore":
            return Unsupported(action, _vm(vm))
        case [_old, _new, _directory, vm, ds, *_] if action in _MIGRATIONS:
            # The scripts of the disks' own TMs are called with one argument more, which says nothing new.
            return Unsupported(action, _vm(vm, ds))
        case [_, *_, vm, ds] if action in _UNSUPPORTED:
            return Unsupported(action, _vm(vm, ds))
        case [ds] if action == "monitor":
            _number(ds)
            return Monitor()
    raise ValueError(argv)


def parse_tm_command(text: str) -> tuple[TmCommand, ...]:
    """Read a TM_COMMAND: one command a line, blank lines and comments skipped. Raises TerminalError.

    Action and TM name become file names below the REMOTES directory, so they are checked to be plain words.
    """
    lines = (line.strip() for line in text.splitlines())
    return tuple(_command(line) for line in lines if line and not line.startswith("#"))


def _command(line: str) -> TmCommand:
    action, *rest = line.split()
    action = action.lower()
    if not rest or not _ACTION.fullmatch(action) or not _TM_NAME.fullmatch(rest[0]):
        raise TerminalError(f"not a transfer command: {line[:200]!r}; is this OpenNebula of another version?")
    return TmCommand(action, rest[0], tuple(rest[1:]))


def _location(text: str) -> Location:
    host, colon, path = text.partition(":/")
    if not colon or not host:
        raise ValueError(text)
    return Location(NodeName(host), re.sub("//+", "/", f"/{path}"))


def _vm(number: str, ds: str = "0") -> VmId:
    """The VM's id; that of a datastore has to be a number, too."""
    _number(ds)
    return VmId(_number(number))


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError(text)
    return int(text)
