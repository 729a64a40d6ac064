"""How onedock-runtime knows whom to ask before it starts a container: a link to the agent's socket.

It is there while the container's names are others than its engine gives, and only then: who has to ask waits for the
agent, and the process inside then finds the right names with its first instruction.
"""

from pathlib import Path

from onedock.reconcilers.model import ContainerId


def link(runtime_dir: Path, container: ContainerId) -> Path:
    """Where it is; patch_bundle.py looks there."""
    return runtime_dir / f"{container}.names"


def let_ask(runtime_dir: Path, container: ContainerId, socket: Path) -> None:
    """The container's next start asks the agent, which listens there."""
    forget(runtime_dir, container)
    link(runtime_dir, container).symlink_to(socket)


def forget(runtime_dir: Path, container: ContainerId) -> None:
    """It starts without asking; absent is success."""
    link(runtime_dir, container).unlink(missing_ok=True)
