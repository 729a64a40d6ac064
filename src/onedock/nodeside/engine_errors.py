"""What an error of the engine means for us, and how it is said in one line with the cause first.

Pure. The engine's status codes say little (a missing user is 500, a missing command 400), so for starts and
pulls the text decides as well. The texts are those of Engine 20.10 to 28.5 and runc 1.1 to 1.3.
"""

import re

from onedock.reconcilers.errors import NotFoundError, OnedockError, TerminalError, TransientError

NO_CONNECTION = 900
"""What aiodocker reports when there was no answer at all."""
MAX_TEXT = 600

_PREFIXES = re.compile(
    r"^(?:failed to create (?:shim )?task(?: for container)?: |failed to start shim: "
    r"|OCI runtime create failed: |runc create failed: |unable to start container process: "
    r"|error during container init: "
    r"|(?:container|process|rootfs)_linux\.go:\d+: [a-z ]*caused:? )+"
)
_UNKNOWN = re.compile(r"(?:: unknown)+(?=: |$)")
"""The kind that containerd gives an error without one: at its end, or before a word that the engine adds."""
_COMMAND = re.compile(r'exec: "(?P<command>.*?)": (?P<reason>.*)', re.DOTALL)
_NO_RUNTIME = re.compile(
    r"(?:unable to retrieve OCI runtime error \(.*?\)|looking up the specified runtime path): (?P<reason>.*)"
)
"""The runtime could not be run, or died before it could say why: containerd missed its log."""
_NO_USER = re.compile(r"unable to find (?P<kind>user|group) (?P<name>.*?): (?P<reason>.*)")

_NO_IMAGE = "the registry does not have the image"
# (words of a pull's error, whether trying again can help, what to say before the engine's own words)
_PULL = (
    (("manifest unknown", "no such manifest", "name unknown", "name not known"), False, _NO_IMAGE),
    (("no matching manifest",), False, "the image is not made for this machine's architecture"),
    (("no basic auth", "unauthorized", "authentication required"), False, "the registry refuses the credentials"),
    (("denied", "forbidden"), False, "the registry refuses access to the image"),
    (("http response to https client",), False, "the registry speaks plain HTTP; list it in insecure-registries"),
    (("x509:",), False, "the registry's certificate is not trusted by the engine"),
    (("toomanyrequests",), True, "the registry limits the rate of pulls"),
    (("no space left",), True, "the node's disk is full"),
    (("not found",), False, _NO_IMAGE),
)


def one_line(text: str) -> str:
    """An engine's or runtime's message without its layers of prefixes: one line of at most 600 characters."""
    flat = " ".join(text.split())
    return _UNKNOWN.sub("", _PREFIXES.sub("", flat))[:MAX_TEXT] or "no reason given"


def start_failure(status: int, text: str) -> OnedockError:
    """Why a container does not start."""
    message = one_line(text)
    if no_runtime := _no_runtime(message):
        return no_runtime
    if found := _COMMAND.search(message):
        command, reason = found["command"], found["reason"].removeprefix(f"stat {found['command']}: ")
        if "permission denied" in reason or "is a directory" in reason:
            return TerminalError(f'the command "{command}" cannot be executed: {reason}')
        if "not found" in reason or "no such file" in reason:
            return TerminalError(f'the command "{command}" is not in the image: {reason}')
        return TerminalError(f'the command "{command}" does not start: {reason}')
    if found := _NO_USER.search(message):
        return TerminalError(f'the {found["kind"]} "{found["name"]}" is not in the image: {found["reason"]}')
    return by_status(status, f"the container cannot be started: {message}")


def create_failure(status: int, text: str) -> OnedockError:
    """Why a container is not created. The image may vanish after the look for it: it is pulled again.

    Engines since 23 look for the runtime here, earlier ones at the start.
    """
    return TransientError(one_line(text)) if status == 404 else _no_runtime(one_line(text)) or by_status(status, text)


def _no_runtime(message: str) -> TerminalError | None:
    if found := _NO_RUNTIME.search(message):
        return TerminalError(
            f"the OCI runtime of the node does not work: {found['reason']}; install onedock-runtime again"
        )
    return None


def pull_failure(image: str, _status: int, text: str) -> OnedockError:
    """Why an image cannot be pulled. What is unknown may pass: a registry that is down has many words."""
    message = one_line(text)
    lower = message.lower()
    for words, passes, said in _PULL:
        if any(word in lower for word in words):
            failure = f"{said}: {image}: {message}"
            return TransientError(failure) if passes else TerminalError(failure)
    return TransientError(f"the image cannot be pulled: {image}: {message}")


def by_status(status: int, text: str) -> OnedockError:
    """The meaning of a status where the text does not matter: 4xx is our fault, anything else may pass.

    409 may pass too: it speaks of a state of the container, which the next look will show.
    """
    message = one_line(text)
    if status == 404:
        return NotFoundError(message)
    if 400 <= status < 500 and status not in {408, 409, 429}:
        return TerminalError(message)
    return TransientError(message)
