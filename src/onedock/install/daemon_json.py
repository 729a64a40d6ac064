"""ONEDock's part of the engine's ``daemon.json``: the runtime and, if the admin wants it, live-restore. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onedock.install.json_text import JsonTextError, load, remove_member, set_member

EMPTY = "{}\n"


@dataclass(frozen=True, slots=True)
class Runtime:
    """How the engine finds onedock-runtime."""

    name: str
    path: Path
    bindings: Path | None = None
    """The agent's ``runtime_dir``, None for the default."""

    def entry(self) -> dict[str, Any]:
        """Its member of ``runtimes``."""
        arguments = [] if self.bindings is None else [f"--onedock-runtime-dir={self.bindings}"]
        return {"path": str(self.path), **({"runtimeArgs": arguments} if arguments else {})}


def add(text: str, runtime: Runtime, *, live_restore: bool) -> str:
    """The text with the runtime registered. Raises JsonTextError when it is not understood, or has another of its name.

    ``live_restore`` False leaves that setting as it is.
    """
    there = load(text).get("runtimes", {})
    if not isinstance(there, dict):
        raise JsonTextError('"runtimes" is no object; mend it first')
    found = there.get(runtime.name)
    if found is not None and not _ours(found):
        raise JsonTextError(
            f"runtime {runtime.name!r} is there already, with another program; "
            "rename it, or set containers.runtime in onedock.toml"
        )
    text = set_member(text, ("runtimes", runtime.name), runtime.entry())
    return set_member(text, ("live-restore",), True) if live_restore else text


def remove(text: str, name: str) -> str:
    """The text without the runtime. Raises JsonTextError."""
    there = load(text).get("runtimes", {})
    if not isinstance(there, dict) or not _ours(there.get(name)):
        return text
    path = ("runtimes",) if len(there) == 1 else ("runtimes", name)
    return remove_member(text, path)


def is_before(backup: str, cleaned: str) -> bool:
    """Whether ``cleaned`` is the backup again: live-restore may have been added, an empty object have gone."""
    try:
        before, after = load(backup), load(cleaned)
    except JsonTextError:
        return False
    if "live-restore" not in before and after.get("live-restore") is True:
        del after["live-restore"]
    if before.get("runtimes") == {}:
        del before["runtimes"]
    return before == after


def _ours(entry: object) -> bool:
    return isinstance(entry, dict) and Path(str(entry.get("path", ""))).name == "onedock-runtime"
