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
_ACTIONS = frozenset({
    "clone", "ln", "delete", "mv", "mvds", "cpds", "context", "mkimage", "mkswap", "resize", "restore",
    "monitor", "snap_create", "snap_create_live", "snap_revert", "snap_delete",
    "premigrate", "postmigrate", "failmigrate", "migrate",
    "prebackup", "prebackup_live", "postbackup", "postbackup_live",
})  # fmt: skip
_TM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


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
    """Bring an image to a VM as its own copy."""

    source: str
    """SOURCE itself when it has a colon of its own, else ``FE:SOURCE``."""
    target: Location
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class Link:
    """Bring a persistent image to a VM."""

    source: str
    target: Location
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a disk, or the VM's whole directory."""

    target: Location
    vm: VmId
    ds: int

    @property
    def disk_id(self) -> int | None:
        """The disk; None: the directory."""
        return self.target.disk_id


@dataclass(frozen=True, slots=True)
class Move:
    """Move a disk, or the VM's directory, to another host or path. Equal places mean nothing to do."""

    source: Location
    target: Location
    vm: VmId
    ds: int

    @property
    def disk_id(self) -> int | None:
        """The disk; None: the directory."""
        return self.target.disk_id


@dataclass(frozen=True, slots=True)
class MoveToDatastore:
    """Bring a persistent image back into its datastore."""

    disk: Location
    source: str
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class CopyToDatastore:
    """Save a disk as the new image that SOURCE names."""

    disk: Location
    source: str
    snapshot: int | None
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class Context:
    """Make the context disk."""

    files: tuple[str, ...]
    """``context.sh`` first, on the front-end."""
    target: Location
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class MakeImage:
    """Make a volatile disk."""

    size_mb: int
    format: str
    target: Location
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class MakeSwap:
    """Make a swap disk."""

    size_mb: int
    target: Location
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class Resize:
    """Enlarge a disk."""

    disk: Location
    size_mb: int
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Create, revert to, or delete a disk snapshot."""

    operation: str
    """``create``, ``create_live``, ``revert`` or ``delete``."""
    disk: Location
    snapshot: int
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class Restore:
    """Restore disks in place from a backup image."""

    directory: Location
    vm: VmId
    image: int
    increment: int | None
    disk_id: int | None
    """None: all disks."""


@dataclass(frozen=True, slots=True)
class Migrate:
    """A step beside a live migration."""

    phase: str
    """``premigrate``, ``postmigrate``, ``failmigrate`` or ``migrate``."""
    source: NodeName
    target: NodeName
    directory: str
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class Backup:
    """A step beside a backup."""

    phase: str
    """``prebackup``, ``prebackup_live``, ``postbackup`` or ``postbackup_live``."""
    directory: Location
    disks: tuple[int, ...]
    deploy_id: str
    job: int | None
    vm: VmId
    ds: int


@dataclass(frozen=True, slots=True)
class Monitor:
    """Report the size of a shared system datastore."""

    ds: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """An action that this version of ONEDock has never heard of."""

    action: str
    argv: tuple[str, ...]


Transfer = (
    Clone
    | Link
    | Delete
    | Move
    | MoveToDatastore
    | CopyToDatastore
    | Context
    | MakeImage
    | MakeSwap
    | Resize
    | Snapshot
    | Restore
    | Migrate
    | Backup
    | Monitor
    | Unknown
)


@dataclass(frozen=True, slots=True)
class TmCommand:
    """One line of a TM_COMMAND: the script ``<tm>/<action>`` and its arguments."""

    action: str
    """Lower case, as the script's file is named, with the suffix of a transfer mode: ``delete.ssh``."""
    tm: str
    argv: tuple[str, ...]

    @property
    def transfer(self) -> Transfer:
        """What the line asks for. Raises TerminalError."""
        return parse_transfer(self.action, self.argv)


def parse_transfer(action: str, argv: Sequence[str]) -> Transfer:
    """Read one script invocation. Raises TerminalError when a known action has unexpected arguments."""
    name = action.partition(".")[0]
    if name not in _ACTIONS:
        return Unknown(action, tuple(argv))
    try:
        return _parse(name, list(argv))
    except ValueError as error:
        raise TerminalError(
            f"transfer command {action} has unexpected arguments: {' '.join(argv)[:200]!r}; "
            "is this OpenNebula of another version?"
        ) from error


def _parse(action: str, argv: list[str]) -> Transfer:
    match action, argv:
        case "clone", [_, *_, target, vm, ds] if source := " ".join(argv[:-3]):
            return Clone(source, _location(target), _vm(vm), _number(ds))
        case "ln", [_, *_, target, vm, ds] if source := " ".join(argv[:-3]):
            return Link(source, _location(target), _vm(vm), _number(ds))
        case "delete", [target, vm, ds]:
            return Delete(_location(target), _vm(vm), _number(ds))
        case "mv", [origin, target, vm, ds]:
            return Move(_location(origin), _location(target), _vm(vm), _number(ds))
        case "mvds", [disk, _, *_, vm, ds]:
            return MoveToDatastore(_location(disk), " ".join(argv[1:-2]), _vm(vm), _number(ds))
        case "cpds", [disk, _, *_, snapshot, vm, ds]:
            source = " ".join(argv[1:-3])
            return CopyToDatastore(_location(disk), source, _optional(snapshot), _vm(vm), _number(ds))
        case "context", [*files, target, vm, ds]:
            return Context(tuple(files), _location(target), _vm(vm), _number(ds))
        case "mkimage", [size, form, target, vm, ds]:
            return MakeImage(_number(size), form, _location(target), _vm(vm), _number(ds))
        case "mkswap", [size, target, vm, ds]:
            return MakeSwap(_number(size), _location(target), _vm(vm), _number(ds))
        case "resize", [disk, size, vm, ds]:
            return Resize(_location(disk), _number(size), _vm(vm), _number(ds))
        case (("snap_create" | "snap_create_live" | "snap_revert" | "snap_delete"), [disk, snapshot, vm, ds]):
            operation = action.removeprefix("snap_")
            return Snapshot(operation, _location(disk), _number(snapshot), _vm(vm), _number(ds))
        case "restore", [directory, vm, image, increment, disk]:
            backup = (_number(image), _optional(increment), _optional(disk))
            return Restore(_location(directory), _vm(vm), *backup)
        case (("premigrate" | "postmigrate" | "failmigrate" | "migrate"), [old, new, directory, vm, ds, *_]):
            # The scripts of the disks' own TMs are called with one argument more, which says nothing new.
            hosts = (NodeName(old), NodeName(new))
            return Migrate(action, *hosts, _path(directory), _vm(vm), _number(ds))
        case (
            ("prebackup" | "prebackup_live" | "postbackup" | "postbackup_live"),
            [directory, disks, deploy_id, job, vm, ds],
        ):
            ids = tuple(_number(disk) for disk in disks.split(":") if disk)
            return Backup(action, _location(directory), ids, deploy_id, _optional(job), _vm(vm), _number(ds))
        case "monitor", [ds]:
            return Monitor(_number(ds))
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
    return Location(NodeName(host), _path(f"/{path}"))


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(text)
    return re.sub("//+", "/", text)


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError(text)
    return int(text)


def _optional(text: str) -> int | None:
    return None if text in {"-", "-1"} else _number(text)


def _vm(text: str) -> VmId:
    return VmId(_number(text))
