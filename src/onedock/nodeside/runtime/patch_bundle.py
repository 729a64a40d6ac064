"""Run by onedock-runtime for ``create``: names the VM's namespace in the bundle, then becomes runc.

Standard library only, and little of it (pathlib and typing alone take as long as all the rest): this is on the way
of every start. It runs under the node's own Python, which may be older than the one that ONEDock is installed with.
"""

# ruff: noqa: PTH101, PTH105, PTH115, PTH116, PTH118, PTH123

from __future__ import annotations

import errno
import json
import operator
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Set
    from typing import Any, NoReturn

_UNBOUND = "no network namespace is bound to this container; start it through ONEDock (is onedock-agent running?)"
_HOOK = "libnetwork-setkey"
"""First argument of the hook by which Docker would take the container's namespace for its own network."""
_NAMES_S = 2.0
"""So long an agent that does not answer may keep a container from starting."""
_HEXADECIMAL = frozenset("0123456789abcdef")
_ALLOW = "SCMP_ACT_ALLOW"
_NO_FAMILIES = frozenset({40, 44})
"""AF_VSOCK, which reaches the hypervisor below the node, and AF_XDP, which sends frames past every filter of the VM's
namespace."""
_FAMILY_BITS = 6
_SOL_PACKET, _LEVEL_BITS = 263, 9
_NO_OPTIONS, _OPTION_BITS = frozenset({15, 24}), 5
"""PACKET_VNET_HDR and PACKET_VNET_HDR_SZ: with these, a raw frame says where in itself a checksum is still to be put.
That may be over an address, and is done on the way to the wire: after the node's filters."""
_NEVER = frozenset({"socketcall", "io_uring_setup", "io_uring_enter", "io_uring_register"})
"""They have the family in memory, where no filter sees it: ``socketcall``, of 32-bit programs, and io_uring, which
newer engines refuse too."""
_NO_SOCKETCALL = {"names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS}
"""To leave it out is not enough: libseccomp lets a 32-bit ``socketcall`` do what any rule lets ``socket`` do, whatever
the family, unless a rule with another answer than the profile's own says no."""
_COMPARISONS = {
    "SCMP_CMP_NE": operator.ne,
    "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_LT": operator.lt,
    "SCMP_CMP_LE": operator.le,
    "SCMP_CMP_GE": operator.ge,
    "SCMP_CMP_GT": operator.gt,
}


class RefusalError(Exception):
    """The container must not be created; the message says why."""


def main(argv: list[str]) -> NoReturn:
    """Patch, then run runc in this process. ``argv``: directory of bindings, path of runc, arguments of runc."""
    bindings, runc, *arguments = argv
    try:
        namespace = bound_namespace(bindings, arguments[-1])
        rewrite(os.path.join(option(arguments, "--bundle", "-b") or ".", "config.json"), namespace)
    except RefusalError as error:
        refuse(arguments, str(error))
    ask_for_names(bindings, arguments[-1])
    os.execv(runc, [runc, *arguments])  # noqa: S606 - its own arguments, passed on


def patch(config: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The bundle's configuration with its processes in ``namespace``, and without Docker's own network hook.

    Raises RefusalError when the configuration has not the form of the OCI runtime specification.
    """
    linux = config.get("linux")
    if not isinstance(linux, dict) or not isinstance(linux.get("namespaces", []), list):
        raise RefusalError("config.json of the bundle has no list of namespaces; is this a Linux container?")
    if isinstance(linux.get("seccomp"), dict):
        linux = {**linux, "seccomp": without_frame_sockets(linux["seccomp"])}
    others = [one for one in linux.get("namespaces", []) if one.get("type") != "network"]
    patched = {
        **config,
        "linux": {**linux, "namespaces": [*others, {"type": "network", "path": namespace}]},
    }
    if config.get("hooks"):
        hooks = {
            stage: [hook for hook in entries if (hook.get("args") or [""])[0] != _HOOK]
            for stage, entries in config["hooks"].items()
        }
        patched["hooks"] = {stage: entries for stage, entries in hooks.items() if entries}
    return patched


def without_frame_sockets(profile: dict[str, Any]) -> dict[str, Any]:
    """The seccomp profile of an engine without sockets of AF_XDP and AF_VSOCK, whatever way it lets them pass.

    Engines refuse families by one comparison, by ranges or by a list of the others, each in a rule of its own. One that
    refuses no socket (seccomp is off) keeps what it has.
    """
    rules: list[dict[str, Any]] = []
    for rule in profile.get("syscalls") or []:
        names = rule.get("names") or ()
        if rule.get("action") == _ALLOW and "socket" in names:
            rules += _socket_rules(rule.get("args") or [])
            names = [name for name in names if name != "socket"]
        if rule.get("action") == _ALLOW and "setsockopt" in names and not rule.get("args"):
            rules += _option_rules()
            names = [name for name in names if name != "setsockopt"]
        if names := [name for name in names if name not in _NEVER]:
            rules.append({**rule, "names": names})
    lets_sockets_pass = any(rule["action"] == _ALLOW and "socket" in rule["names"] for rule in rules)
    return {**profile, "syscalls": [_NO_SOCKETCALL, *rules]} if lets_sockets_pass else profile


def _socket_rules(conditions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rules that let ``socket`` pass under these conditions, for all families but ours.

    A plain comparison sees 64 bits, of which the kernel takes 32: where one would let our families pass with whatever
    bits above, comparisons of single bits take its place.
    """

    def passes(family: int) -> bool:  # runc takes several conditions on one argument for alternatives
        return not of_family or any(_holds(one, family) for one in of_family)

    rule = {"names": ["socket"], "action": _ALLOW}
    of_family = [one for one in conditions if one.get("index") == 0]
    if not any(passes(family + high) for family in _NO_FAMILIES for high in (0, 1 << 32)):
        return [{**rule, "args": conditions}]
    refused = {family for family in range(1 << _FAMILY_BITS) if not passes(family)} | _NO_FAMILIES
    others = [one for one in conditions if one.get("index") != 0]
    return [{**rule, "args": [one, *others]} for one in _all_but(refused, 0, _FAMILY_BITS)]


def _option_rules() -> list[dict[str, Any]]:
    """Rules that let ``setsockopt`` pass but for these options: by its level, or by its option."""
    conditions = [*_all_but({_SOL_PACKET}, 1, _LEVEL_BITS), *_all_but(_NO_OPTIONS, 2, _OPTION_BITS)]
    return [{"names": ["setsockopt"], "action": _ALLOW, "args": [one]} for one in conditions]


def _holds(condition: dict[str, Any], family: int) -> bool:
    """What cannot be understood holds: its rule is replaced."""
    compare, value = _COMPARISONS.get(condition.get("op", "")), condition.get("value", 0)
    if condition.get("op") == "SCMP_CMP_MASKED_EQ":
        return bool(family & value == condition.get("valueTwo", 0))
    return compare is None or bool(compare(family, value))


def _all_but(refused: Set[int], index: int, bits: int, mask: int = 0, wanted: int = 0) -> Iterator[dict[str, Any]]:
    """Conditions on an argument of so many bits, one of which holds for all values but these: the fewest by halves."""
    if not any(value & mask == wanted for value in refused):
        yield {"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": wanted}
    elif bit := (1 << bits) - 1 - mask:
        half = (bit + 1) >> 1
        yield from _all_but(refused, index, bits, mask | half, wanted)
        yield from _all_but(refused, index, bits, mask | half, wanted | half)


def bound_namespace(bindings: str, container: str) -> str:
    """Path of the namespace that the agent has bound to the container. Raises RefusalError."""
    if len(container) != 64 or not _HEXADECIMAL.issuperset(container):
        raise RefusalError(_UNBOUND)
    try:
        with open(os.path.join(bindings, container), encoding="utf-8") as file:
            namespace = file.read()
    except FileNotFoundError:
        raise RefusalError(_UNBOUND) from None
    except (OSError, ValueError) as error:
        raise RefusalError(f"the namespace bound to this container cannot be read: {error}") from None
    try:
        found, own = os.stat(namespace), os.stat("/proc/self/ns/net")
    except OSError:
        raise RefusalError(f"network namespace {namespace} is missing; start the VM through ONEDock") from None
    if found.st_dev != own.st_dev or found.st_ino == own.st_ino:
        raise RefusalError(f"{namespace} is no network namespace of a VM; start the VM through ONEDock")
    return namespace


def ask_for_names(bindings: str, container: str) -> None:
    """Let the agent write name servers that are others than the engine's, which has just written its own.

    Without an agent, or when it does not answer, the container starts with the engine's.
    """
    try:
        agent = os.readlink(os.path.join(bindings, container + ".names"))
    except OSError:
        return
    import socket  # not for every start: it takes longer than most of this

    request = "POST /containers/" + container + "/names HTTP/1.1\r\nHost: agent\r\nContent-Length: 0\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_NAMES_S)
        try:
            connection.connect(agent)
            connection.sendall(request.encode())
            connection.recv(1)
        except OSError:
            return


def rewrite(path: str, namespace: str) -> None:
    """Replace the bundle's config.json whole by its patched form. Raises RefusalError."""
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        if not isinstance(config, dict):
            raise RefusalError(f"{path} is no JSON object")
        draft = path + ".onedock"
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(patch(config, namespace), file)
        os.chmod(draft, os.stat(path).st_mode & 0o777)
        os.replace(draft, path)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise RefusalError(f"{path} cannot be used: {error}") from None


def option(arguments: list[str], *names: str) -> str | None:
    """Value of an option, in either of the forms ``--name value`` and ``--name=value``."""
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else "".join(arguments[number + 1 : number + 2])
    return None


def refuse(arguments: list[str], reason: str) -> NoReturn:
    """End as runc does when it fails: the reason in its log, from where the engine takes it, and on stderr."""
    message = "onedock-runtime: " + reason
    if log := option(arguments, "--log"):
        line = message
        if option(arguments, "--log-format") == "json":
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            line = json.dumps({"level": "error", "msg": message, "time": now})
        with open(log, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    sys.exit(message)


if __name__ == "__main__":
    main(sys.argv[1:])
