"""What the test guest boots from: Debian's cloud kernel, a small Debian, this project's Python packages. Kept.

Made as Debian's own tools make it: the mirror, its keys and a proxy are those of this machine's apt.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import remove_tree

PACKAGES = (
    "busybox-static",
    "dbus",
    "iproute2",
    "kmod",
    "nftables",
    "openvswitch-switch",
    "procps",
    "python3",
    "systemd-sysv",
)
_KERNEL = "linux-image-cloud-amd64"
_BOOT_MODULES = ("virtio_pci", "virtio_blk")
"""The disk's drivers; ext4 is built in, all else the kernel asks for when it needs it."""
_INIT = Path(__file__).with_name("init.sh")
_NEEDED = ("qemu-system-x86_64", "debootstrap", "mke2fs", "apt-get", "dpkg-deb", "/bin/busybox")
_UNUSED_FOR_S = 14 * 86400
_MAKING = ".making-"


@dataclass(frozen=True, slots=True)
class Images:
    """Files that qemu takes; none of them is ever written to by a guest."""

    kernel: Path
    initrd: Path
    root: Path
    """An ext4 file system."""
    python: Path
    """Another one with the site-packages of the interpreter that runs the tests."""


def why_not() -> str | None:
    """Why no guest can be made on this machine; None when it can."""
    if os.geteuid() != 0:
        return "a guest's file system is made by root"
    if platform.machine() != "x86_64":
        return f"the guest is an x86_64 machine, this is {platform.machine()}"
    if missing := [name for name in _NEEDED if _program(name) is None]:
        return f"missing for the guest: {', '.join(missing)}; scripts/prepare.sh packages installs it"
    return None


def prepare(tell: Callable[[str], None]) -> Images:
    """The images, from the cache or made now (minutes), with ``tell`` called before each longer part.

    Raises RuntimeError when this machine's apt names no Debian, or with what a tool said that failed.
    """
    suite, mirror = _debian()
    recipe = hashlib.sha256(Path(__file__).read_bytes() + _INIT.read_bytes() + suite.encode()).hexdigest()[:16]
    distributions = sorted(path.name for path in _site_packages().glob("*.dist-info"))
    python = hashlib.sha256("\n".join([sys.version, *distributions]).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onedock-tests"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in cache.glob(f"{_MAKING}*"):  # by one who was killed
            remove_tree(left)
        debian = cache / f"guest-{recipe}"
        if not debian.exists():
            with _made_whole(debian) as directory:
                _make_debian(directory, suite, mirror, tell)
        packages = cache / f"python-{python}"
        if not packages.exists():
            tell("packing this project's Python packages for the guest")
            with _made_whole(packages) as directory:
                _make_image(_site_packages(), directory / "image", size="1G")
        _forget_unused(cache, {debian, packages})
    return Images(debian / "kernel", debian / "initrd", debian / "root", packages / "image")


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _site_packages() -> Path:
    return Path(sysconfig.get_path("purelib"))


def _debian() -> tuple[str, str]:
    """Suite and mirror that this machine installs from."""
    form = "--format=$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)"
    for line in _run(["apt-get", "indextargets", form, "Created-By: Packages"]).decode().splitlines():
        origin, codename, component, uri = line.split(" ", 3)
        if (origin, component) == ("Debian", "main") and "-" not in codename:
            return codename, uri
    raise RuntimeError("this machine's apt knows no Debian mirror; add one or run apt-get update")


@contextlib.contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """A directory that gets its name when all is in it: who is interrupted leaves nothing that looks finished."""
    directory = Path(tempfile.mkdtemp(prefix=_MAKING, dir=target.parent))
    try:
        made = directory / "made"
        made.mkdir()
        yield made
        made.rename(target)
    finally:
        remove_tree(directory)  # in which debootstrap may have mounted /proc


def _make_debian(directory: Path, suite: str, mirror: str, tell: Callable[[str], None]) -> None:
    root = directory.parent / "root"
    tell(f"making the guest's root: debootstrap {suite} (once, a minute or two)")
    include = f"--include={','.join(PACKAGES)}"
    _run(["debootstrap", "--variant=minbase", include, suite, str(root), mirror], env={**os.environ, **_proxy()})
    tell("adding Debian's cloud kernel")
    release = _add_kernel(directory, root)
    order: dict[str, None] = {}
    for module in _BOOT_MODULES:
        shown = _run(["chroot", str(root), "modprobe", "--set-version", release, "--show-depends", module])
        order |= {line.split()[1]: None for line in shown.decode().splitlines() if line.startswith("insmod")}
    _make_initrd(directory, [root / path.lstrip("/") for path in order])
    _make_image(root, directory / "root", size="2G")


def _add_kernel(directory: Path, root: Path) -> str:
    """Unpack the newest kernel that apt knows without its scripts, which would build an initrd; return its release."""
    lines = _run(["apt-cache", "depends", _KERNEL]).decode().splitlines()
    package = next((line.split()[-1] for line in lines if "Depends: linux-image" in line), None)
    if package is None:
        raise RuntimeError(f"apt does not know {_KERNEL}; run apt-get update")
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        # As root: apt's own user may not write here.
        download = ["apt-get", "download", "-o", "APT::Sandbox::User=root", package]
        try:
            _run(download, cwd=name)
        except RuntimeError:  # the lists are older than the mirror
            _run(["apt-get", "update"])
            _run(download, cwd=name)
        [archive] = Path(name).glob("*.deb")
        _run(["dpkg-deb", "--extract", str(archive), f"{name}/kernel"])
        [image] = Path(name, "kernel/boot").glob("vmlinuz-*")
        release = image.name.removeprefix("vmlinuz-")
        image.rename(directory / "kernel")
        # Below /lib in Debian 12, below /usr/lib in Debian 13.
        [modules] = [*Path(name).glob("kernel/lib/modules"), *Path(name).glob("kernel/usr/lib/modules")]
        modules.rename(root / "usr/lib/modules")
    _run(["chroot", str(root), "depmod", release])
    return release


def _make_initrd(directory: Path, modules: Sequence[Path]) -> None:
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        for made in ("bin", "dev", "modules", "root"):
            Path(name, made).mkdir()
        shutil.copy("/bin/busybox", Path(name, "bin"))
        shutil.copy(_INIT, Path(name, "init"))
        Path(name, "init").chmod(0o755)
        for number, module in enumerate(modules):
            shutil.copy(module, Path(name, "modules", f"{number:02}-{module.name}"))
        files = sorted(str(path.relative_to(name)) for path in Path(name).rglob("*"))
        packed = _run(["/bin/busybox", "cpio", "-o", "-H", "newc"], cwd=name, stdin="\n".join(files))
        (directory / "initrd").write_bytes(packed)


def _make_image(content: Path, image: Path, *, size: str) -> None:
    options = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(content)]
    _run([_program("mke2fs") or "mke2fs", *options, str(image), size])


def _proxy() -> dict[str, str]:
    """apt's proxy as the environment variable that debootstrap's downloads honour."""
    said = _run(["apt-config", "dump", "--format=%v", "Acquire::http::Proxy"]).decode().strip()
    return {"http_proxy": said} if said else {}


def _forget_unused(cache: Path, used: set[Path]) -> None:
    for directory in used:
        os.utime(directory)
    for directory in cache.glob("*-*"):
        if directory.is_dir() and time.time() - directory.stat().st_mtime > _UNUSED_FOR_S:
            shutil.rmtree(directory)


def _run(argv: Sequence[str], *, cwd: str | None = None, env: dict[str, str] | None = None, stdin: str = "") -> bytes:
    """Output of a tool. RuntimeError with the end of what it said when it fails."""
    done = subprocess.run(argv, check=False, cwd=cwd, env=env, input=stdin.encode(), capture_output=True, timeout=600)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise RuntimeError(f"{' '.join(argv[:3])} ended with {done.returncode}: {said[-1500:]}")
    return done.stdout
