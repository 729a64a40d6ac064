"""What the transfer manager's commands mean for a container: images are pulled, remains are removed.

A container has no disk file: its image comes from the registry and its changes live in the engine. So CLONE and LN
pull on the node (PROLOG is the pull), DELETE of the root disk or of the VM's directory removes everything, and what
cannot be done yet fails before anything is lost.
"""

import asyncio
import asyncio.subprocess
from pathlib import Path

import structlog

from onedock.controller import verbs
from onedock.controller.images.source import stored_reference
from onedock.controller.images.transfer import (
    Clone,
    Context,
    Delete,
    Monitor,
    Move,
    MoveToDatastore,
    TmCommand,
    Transfer,
    Unknown,
    Unsupported,
    parse_tm_command,
)
from onedock.controller.nodes import Nodes
from onedock.controller.registry import Registry, VmRecord
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Desired, NodeName

log = structlog.get_logger(__name__)

OWN_TM = "onedock"
ROOT_DISK = 0
SCRIPT_DEADLINE_S = 300.0


class Transfers:
    """Does transfer commands."""

    def __init__(self, *, nodes: Nodes, registry: Registry, remotes: Path) -> None:
        self._nodes = nodes
        self._registry = registry
        self._remotes = remotes

    async def do(self, record: VmRecord, transfer: Transfer) -> Desired | None:
        """Do one command; returns the desired state that it leaves behind (None: as it was).

        Raises:
            TerminalError: it cannot be done; the VM and its data are as they were.
            TransientError: node or registry did not answer.
        """
        match transfer:
            case Clone(source, target):
                await self._pull(source, target.host)
                return None
            case Delete(target):
                return await self._delete(record, target.host, target.disk_id)
            case Move(source, target):
                if source != target:
                    raise TerminalError(
                        "not supported yet: moving a container's disk to another host or datastore "
                        "(migrate, undeploy, stop)"
                    )
                return None
            case Context():
                return None  # its variables are in the container's environment
            case MoveToDatastore():
                raise TerminalError(
                    "not supported yet: saving a persistent Docker image; "
                    "the container is kept on its node with all changes"
                )
            case Unsupported(action):
                raise TerminalError(f"not supported yet: {action} for containers; use only a Docker image as disk")
            case Monitor() | Unknown():
                raise TerminalError("not supported yet: a transfer that is about no VM")

    async def _pull(self, source: str, host: NodeName) -> None:
        node = await self._nodes.get(host)
        image = stored_reference(source).pullable
        if not await node.engine.image_present(image):
            log.info("image is pulled", node=host, image=image)
            await node.engine.pull(image)

    async def _delete(self, record: VmRecord, host: NodeName, disk: int | None) -> Desired | None:
        """The VM's remains on a host go. A host that is no node (the front-end, for stopped VMs) has none."""
        if disk not in {None, ROOT_DISK}:
            return None
        desired = verbs.to_remove(record.desired, vm=record.vm, node=host)
        try:
            node = await self._nodes.get(host)
        except TerminalError:
            log.info("nothing to remove on a host that is no node", host=host)
            return None
        await self._registry.want(desired)
        await node.runner.converge(desired)
        return desired

    async def run_commands(self, text: str) -> None:
        """The transfer commands of a clean-up that belong to other TMs; oned expects the driver to run them.

        Failures are logged and passed over, as the stock driver does (protocol reference 2.5, CLEANUP).
        """
        try:
            commands = [command for command in parse_tm_command(text) if command.tm != OWN_TM]
        except TerminalError as error:
            log.warning("transfer commands of a clean-up cannot be read", error=str(error))
            return
        for command in commands:
            problem = await self._run_script(command)
            if problem:
                log.warning(
                    "transfer command of a clean-up failed",
                    tm=command.tm,
                    command=command.action,
                    error=problem,
                )

    async def _run_script(self, command: TmCommand) -> str:
        """Run one stock script with its words as arguments; returns what went wrong."""
        folder = self._remotes / "tm" / command.tm
        names = (command.action, command.action.rpartition(".")[0] or command.action)
        script = next((folder / name for name in names if (folder / name).is_file()), None)
        if script is None:
            return f"{folder / names[0]} does not exist"
        process = await asyncio.create_subprocess_exec(
            script, *command.argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(SCRIPT_DEADLINE_S):
                _, stderr = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return f"no end within {SCRIPT_DEADLINE_S:.0f} s"
        return "" if process.returncode == 0 else stderr.decode(errors="replace")[-400:]
