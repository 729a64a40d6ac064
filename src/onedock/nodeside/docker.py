"""The Docker engine of a node, as ``ports.Containers``: which calls a verb takes, what their answers mean.

A call without an answer has happened as often as not: it raises TransientError, and the caller looks again
before it decides.
"""

import asyncio
import base64
import json
import math
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from onedock.nodeside import engine_answers, engine_errors, engine_json
from onedock.nodeside.calls import OnCall, uncounted
from onedock.nodeside.engine_answers import Image
from onedock.nodeside.engine_http import CALL_S, CONNECT_S, EngineConnection
from onedock.nodeside.pulls import PullMessage, PullProgress, registry_credentials
from onedock.reconcilers.errors import NotFoundError, TerminalError, TransientError
from onedock.reconcilers.model import (
    LABEL_VM,
    Container,
    ContainerId,
    ContainerSpec,
    Phase,
    VmId,
    container_name,
)

START_S = 120.0
"""A start waits for others in the engine's queue, and for the disk."""
PULL_SILENCE_S = 300.0
"""A pull has no deadline as a whole, but must say something; unpacking a big layer is its longest silence."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the admission of a node looks at."""

    id: str
    version: str
    live_restore: bool
    """Whether containers outlive the engine's process."""
    cgroup_version: int
    runtimes: Mapping[str, str]
    """The path of each OCI runtime, by its name; a bare name is looked up in PATH."""
    system_time: str
    """The engine's clock, RFC 3339."""
    data_root: str


class DockerEngine:
    """One engine. Use as ``async with DockerEngine(url) as engine``.

    Args:
        url: ``unix:///var/run/docker.sock`` or ``https://host:2376``.
        runtime: name of the OCI runtime that new containers get.
        auth_file: credentials for pulls, in the format of ``~/.docker/config.json``.
        on_progress: called during a pull with image, bytes so far and bytes in all.
        on_call: told of each call, for metrics.
        tls: how to verify and be verified, for ``https``.
    """

    def __init__(
        self,
        url: str,
        *,
        runtime: str = "onedock",
        auth_file: Path | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
        on_call: OnCall = uncounted,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.connection = EngineConnection(url, tls=tls, on_call=on_call)
        self._runtime = runtime
        self._auth_file = auth_file
        self._on_progress = on_progress
        self._pulls: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        """Prepare; the engine need not answer yet. TerminalError: the address makes no sense."""
        await self.connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End running pulls and close every connection."""
        pulls = list(self._pulls.values())
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)
        await self.connection.__aexit__(kind, error, trace)

    async def ping(self) -> str:
        """See ``ports.Containers``."""
        answer = await self.connection.ask("GET", "version", deadline_s=CONNECT_S)
        with _understood():
            return str(answer["Version"])

    async def info(self) -> EngineInfo:
        """What the engine says of itself."""
        info = await self.connection.ask("GET", "info")
        with _understood():
            return EngineInfo(
                id=str(info["ID"]),
                version=str(info["ServerVersion"]),
                live_restore=info["LiveRestoreEnabled"] is True,
                cgroup_version=int(info.get("CgroupVersion", "1")),
                runtimes={str(name): str(runtime.get("path", "")) for name, runtime in info["Runtimes"].items()},
                system_time=str(info["SystemTime"]),
                data_root=str(info["DockerRootDir"]),
            )

    async def image_present(self, image: str) -> bool:
        """See ``ports.Containers``."""
        return await self._image(image) is not None

    async def pull(self, image: str) -> None:
        """See ``ports.Containers``. Callers that want the same image at the same time share one pull."""
        pull = self._pulls.get(image)
        if pull is None:
            pull = self._pulls[image] = asyncio.create_task(self._pull(image), name=f"pull {image}")
            pull.add_done_callback(partial(self._forget_pull, image))
        # A caller that gives up must not take the pull away from the others.
        await asyncio.shield(pull)

    @property
    def pulling(self) -> frozenset[str]:
        """The images that are being pulled just now."""
        return frozenset(self._pulls)

    async def remove_image(self, image: str) -> None:
        """See ``ports.Containers``."""
        found = await self._image(image)
        if found is None:
            return
        users = {"filters": json.dumps({"ancestor": [found.id]}), "all": "1"}
        # Never by force: that would take the image from under a stopped container.
        if await self.connection.ask("GET", "containers/json", params=users):
            return
        for name in (*found.names, found.id):
            # 404: gone with an earlier name; 409: in use since we looked.
            await self.connection.ask("DELETE", f"images/{name}", accept={404, 409})

    async def pinned_images(self) -> tuple[str, ...]:
        """Every image of the engine by its digest references; those that have tags only are left out."""
        return engine_answers.pinned_images(await self.connection.ask("GET", "images/json"))

    async def layer_bytes(self, container: ContainerId) -> int:
        """Bytes that a container has written into its own layer. The engine counts them by walking the files: slow."""
        answer = await self.connection.ask("GET", f"containers/{container}/json", params={"size": "1"}, accept={404})
        return 0 if answer is None else engine_answers.layer_bytes(answer)

    async def find(self, vm: VmId) -> Container | None:
        """See ``ports.Containers``."""
        return await self._inspect(container_name(vm))

    async def list_ours(self) -> tuple[Container, ...]:
        """See ``ports.Containers``."""
        ours = {"filters": json.dumps({"label": [LABEL_VM]}), "all": "1"}
        return engine_answers.listed_containers(await self.connection.ask("GET", "containers/json", params=ours))

    async def create(self, vm: VmId, *, instance: str, spec: ContainerSpec) -> ContainerId:
        """See ``ports.Containers``."""
        body = engine_json.create_body(vm, instance=instance, spec=spec, runtime=self._runtime)
        image = await self._image(spec.image)
        if image is None:
            raise TransientError(f"the image is no longer in the engine: {spec.image}")
        if spec.working_dir is None and image.working_dir:
            engine_json.working_directory(image.working_dir)
        answer = await self.connection.ask(
            "POST",
            "containers/create",
            params={"name": container_name(vm)},
            body=body,
            accept={409},
            failure=engine_errors.create_failure,
        )
        if answer is None:
            return _adopted(await self.find(vm), vm, instance=instance, spec=spec)
        with _understood():
            return ContainerId(str(answer["Id"]))

    async def start(self, container: ContainerId) -> None:
        """See ``ports.Containers``. Raises NotFoundError when it is gone."""
        path = f"containers/{container}/start"
        await self.connection.ask("POST", path, deadline_s=START_S, failure=engine_errors.start_failure)

    async def stop(self, container: ContainerId, *, grace_s: float | None) -> None:
        """See ``ports.Containers``."""
        path = f"containers/{container}"
        if grace_s is None:
            await self.connection.ask("POST", f"{path}/kill", accept={404, 409})
            await self.connection.ask("POST", f"{path}/wait", accept={404})
            return
        seconds = math.ceil(grace_s)
        await self.connection.ask(
            "POST", f"{path}/stop", params={"t": str(seconds)}, deadline_s=seconds + CALL_S, accept={404}
        )

    async def unpause(self, container: ContainerId) -> None:
        """See ``ports.Containers``."""
        try:
            await self.connection.ask("POST", f"containers/{container}/unpause")
        except (TransientError, NotFoundError) as error:
            # 500 is the engine's word for "not paused": running is success, all else wants a new look.
            found = await self._inspect(container)
            if found is None or found.phase is not Phase.RUNNING:
                raise TransientError(f"the container cannot be thawed: {error}") from error

    async def update_limits(self, container: ContainerId, spec: ContainerSpec) -> None:
        """See ``ports.Containers``."""
        await self.connection.ask("POST", f"containers/{container}/update", body=engine_json.update_body(spec))

    async def remove(self, container: ContainerId) -> None:
        """See ``ports.Containers``."""
        everything = {"force": "1", "v": "1"}
        await self.connection.ask("DELETE", f"containers/{container}", params=everything, accept={404})

    async def _inspect(self, container: str) -> Container | None:
        answer = await self.connection.ask("GET", f"containers/{container}/json", accept={404})
        return None if answer is None else engine_answers.inspected_container(answer)

    async def _image(self, image: str) -> Image | None:
        path = f"images/{engine_json.pinned_image(image)}/json"
        answer = await self.connection.ask("GET", path, accept={404})
        return None if answer is None else engine_answers.inspected_image(answer)

    async def _pull(self, image: str) -> None:
        if await self.image_present(image):
            return
        explain = partial(engine_errors.pull_failure, image)
        headers = {}
        if self._auth_file is not None and (credentials := registry_credentials(self._auth_file, image)):
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(json.dumps(credentials).encode()).decode()
        progress = PullProgress()
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(PULL_SILENCE_S) as silence,
                self.connection.stream(
                    "POST", "images/create", params={"fromImage": image}, headers=headers, failure=explain
                ) as lines,
            ):
                async for line in lines:
                    silence.reschedule(loop.time() + PULL_SILENCE_S)
                    message = PullMessage.parse(line)
                    if message.error is not None:
                        raise explain(200, message.error)
                    if (summed := progress.add(message)) and self._on_progress is not None:
                        self._on_progress(image, *summed)
        except TimeoutError:
            raise TransientError(f"the pull has made no progress for {PULL_SILENCE_S:g} s: {image}") from None
        if not await self.image_present(image):
            raise TransientError(f"the pull ended before the image was complete: {image}")

    def _forget_pull(self, image: str, pull: asyncio.Task[None]) -> None:
        del self._pulls[image]
        if not pull.cancelled():
            pull.exception()  # seen, even when every caller has given up meanwhile


def _adopted(found: Container | None, vm: VmId, *, instance: str, spec: ContainerSpec) -> ContainerId:
    """Who holds the name already: the one that we want, from a call whose answer was lost, or another."""
    name = container_name(vm)
    if found is None or found.phase in {Phase.REMOVING, Phase.DEAD}:
        # The engine reserves a name before the container can be found by it, and frees it after it is gone.
        raise TransientError(f"the name {name} is taken by a container that is just being made or removed")
    if found.vm != vm:
        raise TerminalError(f"the name {name} is taken by a container that is not ONEDock's; remove or rename it")
    if found.instance != instance:
        raise TerminalError(f"{name} exists already, left by an earlier VM of this number; remove it: docker rm {name}")
    if found.spec_digest != spec.digest():
        raise TerminalError(f"{name} exists already, made with other settings; remove it: docker rm {name}")
    return found.id


@contextmanager
def _understood() -> Iterator[None]:
    """For answers of one or two fields: that they are missing says that this is no Docker engine."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise TransientError(f"the engine's answer is not understood: {error!r}") from error
