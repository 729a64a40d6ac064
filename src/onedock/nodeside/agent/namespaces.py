"""Named network namespaces, as ``ip netns`` keeps them: files in /run/netns that they are mounted on.

Never forks. A thread that enters a namespace stays there, so everything here but ``names`` runs in threads
that belong to nobody else and begin each job with ``enter_home``.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DIRECTORY = Path("/run/netns")

Identity = tuple[int, int]
"""Device and inode of a namespace."""

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2
_SELF = Path("/proc/thread-self/ns/net")

_SYSCTL = (
    # Announce addresses, so that neighbours do not keep the MAC of whoever had them before.
    ("ipv4/conf/all/arp_notify", "1"),
    ("ipv6/conf/all/ndisc_notify", "1"),
    # Without it, the kernel takes all other addresses of a subnet away together with the first.
    ("ipv4/conf/all/promote_secondaries", "1"),
    # Engines make a node a router, and namespaces begin as the node is: a VM in two networks would connect them.
    ("ipv4/ip_forward", "0"),
    # Links are born with it: a router on the network configures those NICs only that are told to listen.
    ("ipv6/conf/default/accept_ra", "0"),
)

_directory_lock = threading.Lock()
_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    """Where a namespace is, or would be."""
    return DIRECTORY / name


def names() -> tuple[str, ...]:
    """All names in use; whether a namespace is still behind each is not looked at."""
    return tuple(entry.name for entry in DIRECTORY.iterdir()) if DIRECTORY.is_dir() else ()


def exists(name: str) -> bool:
    """Whether a namespace is mounted there; a bare file, left by a crash in between, is none."""
    with suppress(FileNotFoundError):
        return path(name).stat().st_dev == _SELF.stat().st_dev
    return False


def current() -> int:
    """A descriptor of the calling thread's namespace, which keeps it alive without keeping its name in use."""
    return os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)


def identity(descriptor: int) -> Identity:
    """What tells a namespace from all others that live."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def is_at(name: str, which: Identity) -> bool:
    """Whether the name stands for this namespace."""
    with suppress(FileNotFoundError):
        found = path(name).stat()
        return (found.st_dev, found.st_ino) == which
    return False


def put_back(name: str, descriptor: int) -> None:
    """Give a namespace its name again, whatever else has it now."""
    _share_directory()
    remove(name)
    target = path(name)
    target.touch(mode=0o444)
    source = f"/proc/self/fd/{descriptor}"
    _check(_libc.mount(source.encode(), os.fsencode(target), b"none", _MS_BIND, None), "mount", target)


def enter_home() -> None:
    """Bring the calling thread into the namespace of the process."""
    _enter(Path("/proc/self/ns/net"))


@contextmanager
def at_home() -> Iterator[None]:
    """The calling thread is in the namespace of the process for a moment."""
    before = current()
    try:
        enter_home()
        yield
    finally:
        _check(_libc.setns(before, _CLONE_NEWNET), "setns", "the namespace before")
        os.close(before)


def enter(name: str) -> None:
    """Bring the calling thread into the namespace."""
    _enter(path(name))


def create_and_enter(name: str) -> None:
    """Make the namespace, with the calling thread in it. It must not exist."""
    _share_directory()
    target = path(name)
    target.touch(mode=0o444)
    _check(_libc.unshare(_CLONE_NEWNET), "unshare", name)
    for key, value in _SYSCTL:
        sysctl(key, value)
    _check(_libc.mount(os.fsencode(_SELF), os.fsencode(target), b"none", _MS_BIND, None), "mount", target)


def remove(name: str) -> None:
    """Take the name away; the namespace ends with its last process. Absent is success."""
    target = path(name)
    while exists(name):
        _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), "umount", target)
    target.unlink(missing_ok=True)


def sysctl(key: str, value: str) -> None:
    """Set ``net/<key>`` in the calling thread's namespace. Skipped where the kernel lacks it (no IPv6)."""
    with suppress(FileNotFoundError):
        Path("/proc/sys/net", key).write_text(value)


def _enter(namespace: Path) -> None:
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, _CLONE_NEWNET), "setns", namespace)
    finally:
        os.close(descriptor)


def _share_directory() -> None:
    """Make the directory a shared mount, as ``ip netns`` does: what is mounted below is seen everywhere."""
    DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    target = os.fsencode(DIRECTORY)
    with _directory_lock:
        if _libc.mount(b"", target, b"none", _MS_SHARED | _MS_REC, None) == 0:
            return
        _check(_libc.mount(target, target, b"none", _MS_BIND | _MS_REC, None), "mount", DIRECTORY)
        _check(_libc.mount(b"", target, b"none", _MS_SHARED | _MS_REC, None), "mount", DIRECTORY)


def _check(result: int, call: str, subject: object) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", str(subject))
