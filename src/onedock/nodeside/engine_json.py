"""ContainerSpec to the JSON that the Engine API takes. Pure; called by ``docker`` alone.

A spec is checked here against all that the engine would take without a word and that would then fail in the
container, reach a file of it unescaped (resolv.conf, hosts) or open a way out of it.
"""

import ipaddress
import posixpath
import re
from typing import Any

from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import LABEL_INSTANCE, LABEL_SPEC, LABEL_VM, ContainerSpec, VmId

CPU_PERIOD_US = 100_000
UNLIMITED_BYTES = (1 << 63) - 4096
"""The kernel's own word for no limit: ``update`` takes 0 for "unchanged" and refuses -1."""
FORBIDDEN_DIRECTORIES = ("/proc", "/sys", "/dev")

_DIGEST = r"sha256:[0-9a-f]{64}"
_REGISTRY = r"(?:[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_REPOSITORY = rf"{_REGISTRY}(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
_IMAGE = re.compile(rf"(?:{_REPOSITORY}@)?{_DIGEST}")
_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
_DOMAIN = re.compile(r"\.|[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?")


def pinned_image(reference: str) -> str:
    """The reference, if it is ``repository@sha256:…`` or an image id; nothing else gets into a path.

    Raises:
        TerminalError: it is anything else; a tag could mean another image tomorrow.
    """
    if not _IMAGE.fullmatch(reference):
        raise TerminalError(f"the image reference {_shown(reference)} is not pinned by digest (…@sha256:…)")
    return reference


def create_body(vm: VmId, *, instance: str, spec: ContainerSpec, runtime: str) -> dict[str, Any]:
    """The body of ``POST /containers/create``.

    The container gets no network of the engine's, no privilege beyond the engine's default, and an open
    standard input, without which an image whose command is a shell would end at once.

    Raises:
        TerminalError: a value of the spec can never work or must not; the text names it.
    """
    return {
        "Image": pinned_image(spec.image),
        "Hostname": _matching(_HOSTNAME, spec.hostname, "host name"),
        "Entrypoint": _entrypoint(spec),
        "Cmd": None if spec.command is None else [_text(word, "a word of the command") for word in spec.command],
        "Env": [_variable(name, value) for name, value in spec.environment],
        "WorkingDir": "" if spec.working_dir is None else working_directory(spec.working_dir),
        "User": "" if spec.user is None else _matching(_USER, spec.user, "user"),
        "Labels": {
            LABEL_VM: str(vm),
            LABEL_INSTANCE: _text(instance, "the instance"),
            LABEL_SPEC: spec.digest(),
        },
        "OpenStdin": True,
        "Tty": False,
        "HostConfig": {
            "NetworkMode": "none",
            "Runtime": runtime,
            "Privileged": False,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": str(spec.log_max_bytes)}},
            "Dns": [_address(address, "name server") for address in spec.dns],
            "DnsSearch": [_matching(_DOMAIN, domain, "search domain") for domain in spec.search],
            "ExtraHosts": [_host(name, address) for name, address in spec.hosts],
            "CpuShares": spec.cpu_shares,
            "CpuPeriod": CPU_PERIOD_US,
            "CpuQuota": spec.cpu_quota_us,
            "Memory": spec.memory_bytes,
            "MemorySwap": spec.memory_bytes,
            "PidsLimit": spec.pids,
        },
    }


def update_body(spec: ContainerSpec) -> dict[str, Any]:
    """The body of ``POST /containers/<id>/update``, where a zero of the spec must be said in other words."""
    memory = spec.memory_bytes or UNLIMITED_BYTES
    return {
        "CpuShares": spec.cpu_shares,
        "CpuPeriod": CPU_PERIOD_US,
        "CpuQuota": spec.cpu_quota_us or -1,
        "Memory": memory,
        "MemorySwap": memory,
        "PidsLimit": spec.pids,
    }


def working_directory(path: str) -> str:
    """A directory to start in, of a spec or an image.

    Raises:
        TerminalError: it is relative, or below a directory whose entries lead out of the container: a
            descriptor of the runtime under ``/proc/self/fd`` was a way to the host (CVE-2024-21626).
    """
    _text(path, "the working directory")
    normal = posixpath.normpath("/" + path.lstrip("/"))
    if not path.startswith("/"):
        raise TerminalError(f"the working directory {_shown(path)} is not absolute")
    if any(normal == top or normal.startswith(f"{top}/") for top in FORBIDDEN_DIRECTORIES):
        raise TerminalError(f"the working directory {_shown(path)} is not allowed: it is below {normal[:5]}")
    return path


def _entrypoint(spec: ContainerSpec) -> list[str] | None:
    if spec.entrypoint is None:
        return None
    # The engine takes an empty list for "the image's own", and one empty word for "none".
    return [_text(word, "a word of the entrypoint") for word in spec.entrypoint] or [""]


def _variable(name: str, value: str) -> str:
    if not name or "=" in name:
        raise TerminalError(f"{_shown(name)} cannot be the name of an environment variable")
    return f"{_text(name, 'the name of an environment variable')}={_text(value, f'the variable {name[:40]}')}"


def _host(name: str, address: str) -> str:
    return f"{_matching(_DOMAIN, name, 'host name')}:{_address(address, 'address of a host')}"


def _address(text: str, what: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise TerminalError(f"the {what} {_shown(text)} is no IP address") from error
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise TerminalError(f"the {what} {_shown(text)} has a zone, which means nothing inside a container")
    return str(address)


def _matching(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise TerminalError(f"the {what} {_shown(text)} is not valid")
    return text


def _text(text: str, what: str) -> str:
    if "\0" in text:
        raise TerminalError(f"{what} contains a zero byte")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TerminalError(f"{what} is not valid UTF-8; convert it in the template") from error
    return text


def _shown(text: str) -> str:
    return repr(text[:60])
