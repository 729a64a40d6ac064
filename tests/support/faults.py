"""A cloud to break: real faults of engine, agent, registry, oned, drivers, disks and templates, each undone after."""

import asyncio
import base64
import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from tests.support import engine as engines
from tests.support.cloud import BIN, Cloud
from tests.support.engine import PrivateEngine
from tests.support.images import Image
from tests.support.registry import CREDENTIALS, PrivateRegistry
from tests.support.waiting import eventually

from onedock.cli.client import ApiError
from onedock.lab.opennebula.states import LcmState

LOOPS = Image(cmd=("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"))
_TMPFS = "size=32m"
_FRESH = itertools.count()


def mount(place: Path) -> None:
    """A small file system of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", _TMPFS, "tmpfs", place], check=True)


class Scene:
    """``async with Scene() as scene:`` has an engine, a registry and a cloud of its own, and one VM that runs."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start all of it."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _start(self) -> None:
        self.engine = self._stack.enter_context(PrivateEngine())
        self._use_own_runtime()
        self.registry = self._stack.enter_context(PrivateRegistry(reachable_in=(self.engine.netns,)))
        self.protected = self._stack.enter_context(PrivateRegistry(reachable_in=(self.engine.netns,), protected=True))
        environment = self._stack.enter_context(pytest.MonkeyPatch.context())
        # What is left over must stay until it was found.
        environment.setenv("ONEDOCK_CONTROLLER__ORPHAN_GRACE_S", "600")
        environment.setenv("ONEDOCK_REGISTRY__DATA_DIR", str(self.registry.directory))
        self.cloud = Cloud(self.engine, self.registry)
        for name in ("controller", "agent"):  # disks of their own, that can be full or read-only
            place = self.cloud.directory / name
            place.mkdir()
            mount(place)
        await self._stack.enter_async_context(self.cloud)
        self.image = await self.cloud.image("loops", LOOPS)
        self.steady = await self.cloud.running_vm(self.image, name="steady")
        await self.cloud.settled()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and remove all of it."""
        if error is not None:
            error.add_note(self.cloud.story())
        await self._stack.aclose()

    def _use_own_runtime(self) -> None:
        """A copy of the runtime wrapper, which may be moved away."""
        shutil.copytree(engines.RUNTIME.parent, self.engine.directory / "lib")
        self.wrapper = self.engine.directory / "lib" / engines.RUNTIME.name
        self._set_engine(lambda options: options["runtimes"]["onedock"].update(path=str(self.wrapper)))

    def _set_engine(self, change: Callable[[dict[str, Any]], None]) -> str:
        """Change ``daemon.json`` and let dockerd read it; returns what it was."""
        path = self.engine.directory / "daemon.json"
        before = path.read_text()
        options = json.loads(before)
        change(options)
        path.write_text(json.dumps(options))
        os.kill(self.engine.dockerd_pid, signal.SIGHUP)
        return before

    @asynccontextmanager
    async def engine_option(self, change: Callable[[dict[str, Any]], None]) -> AsyncIterator[None]:
        """An engine with other options, without a restart."""

        def shown() -> tuple[Any, Any]:
            info = self.engine.api("GET", "/info")
            return "onedock" in info["Runtimes"], info["LiveRestoreEnabled"]

        usual = await asyncio.to_thread(shown)
        before = self._set_engine(change)
        try:
            await eventually(lambda: shown() != usual, what="the engine has read its options")
            yield
        finally:
            (self.engine.directory / "daemon.json").write_text(before)
            os.kill(self.engine.dockerd_pid, signal.SIGHUP)
            await eventually(lambda: shown() == usual, what="the engine has read its usual options")

    @asynccontextmanager
    async def settings(self, *changes: tuple[str, str]) -> AsyncIterator[None]:
        """A controller with other settings."""
        path = self.cloud.directory / "onedock.toml"
        before = text = path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        try:
            await self._restart_controller(path, text)
            yield
        finally:
            await self._restart_controller(path, before)

    async def _restart_controller(self, path: Path, text: str) -> None:
        await asyncio.to_thread(self.cloud.controller.stop)
        path.write_text(text)
        await asyncio.to_thread(self.cloud.controller.start)
        await eventually(self._serves, within=20, what="controller and drivers are together")

    def _serves(self) -> bool:
        try:
            health = self.cloud.view("/health")
        except ApiError:
            return False
        return all(health["drivers"].values()) and bool(health["last_resync"])

    async def fresh_image(self, **options: Any) -> int:
        """An image that no node has yet."""
        number = next(_FRESH)
        image = Image(cmd=LOOPS.cmd, files=((f"fresh-{number}", os.urandom(16)),))
        return await self.cloud.image(f"fresh-{number}", options.pop("image", image), **options)

    @asynccontextmanager
    async def vm(self, image: int | None = None, **options: Any) -> AsyncIterator[int]:
        """A VM that is being deployed, and is deleted in the end."""
        vm = await self.cloud.vm(self.image if image is None else image, **options)
        try:
            yield vm
        finally:
            await self._delete(vm)

    @asynccontextmanager
    async def held_vm(self) -> AsyncIterator[int]:
        """A VM that is not deployed yet."""
        template = f'NAME="held"\nCPU="0.1"\nMEMORY="64"\nDISK=[IMAGE_ID="{self.image}"]\n'
        template += f'NIC=[NETWORK_ID="{self.cloud.network}"]\nCONTEXT=[NETWORK="YES"]\n'
        vm: int = await self.cloud.one.call("one.vm.allocate", template, True)
        try:
            yield vm
        finally:
            await self._delete(vm)

    @asynccontextmanager
    async def running_vm(self, **options: Any) -> AsyncIterator[int]:
        """A VM that runs."""
        async with self.vm(**options) as vm:
            await self.cloud.reaches(vm, LcmState.RUNNING)
            yield vm

    async def _delete(self, vm: int) -> None:
        await self.cloud.one.call("one.vm.recover", vm, 3)

    def container(self, vm: int) -> dict[str, Any]:
        """The container of a VM that has one."""
        found = self.cloud.container(vm)
        assert found is not None
        return found

    async def cause(self, vm: int) -> str:
        """What ``explain`` would say first, without the command."""
        answer = await asyncio.to_thread(self.cloud.view, f"/vms/{vm}/explain")
        return str(answer["cause"]["text"])

    async def command(self, *words: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Run ``onedock``; returns status, standard output and standard error."""
        process = await asyncio.create_subprocess_exec(
            BIN / "onedock",
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"ONEDOCK_CONFIG": str(self.cloud.directory / "onedock.toml")} | (environment or {}),
        )
        output, errors = await process.communicate()
        return process.returncode or 0, output.decode(), errors.decode()

    async def findings(self) -> list[dict[str, Any]]:
        """What ``onedock doctor`` finds."""
        status, output, errors = await self.command("doctor", "--json")
        assert output, errors
        findings: list[dict[str, Any]] = json.loads(output)["findings"]
        worst = max(({"warning": 1, "error": 2}[finding["severity"]] for finding in findings), default=0)
        assert status == worst
        return findings

    def delete_manifest(self, source: str) -> None:
        """Take an image out of the registry, behind everybody's back."""
        repository, _, digest = source.removeprefix("docker://").partition("/")[2].partition("@")
        connection = http.client.HTTPConnection(self.registry.address)
        with contextlib.closing(connection):
            connection.request("DELETE", f"/v2/{repository}/manifests/{digest}")
            assert connection.getresponse().status == 202

    @asynccontextmanager
    async def protected_registry(self) -> AsyncIterator[tuple[Path, int]]:
        """Images in a registry that wants a password: the file with it, and an image that no node has."""
        auths = self.cloud.directory / "auth.json"
        self.write_password(auths, CREDENTIALS)
        old, new = self.registry.address, self.protected.address
        more = f'address = "{new}"\nauth_file = "{auths}"'
        async with self.settings(
            (f'address = "{old}"', more), ("insecure_sources = [", f'insecure_sources = ["{new}", ')
        ):
            yield auths, await self.fresh_image()

    def write_password(self, auths: Path, credentials: str) -> None:
        """Write a file of credentials for the protected registry."""
        encoded = base64.b64encode(credentials.encode()).decode()
        auths.write_text(json.dumps({"auths": {self.protected.address: {"auth": encoded}}}))


@contextmanager
def moved_away(path: Path) -> Iterator[None]:
    """Rename a file for a while."""
    elsewhere = path.with_name(f"{path.name}.away")
    path.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(path)


@contextmanager
def filled(directory: Path) -> Iterator[None]:
    """No space on the file system of a directory for a while."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 16, 1 << 8, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(mount: Path) -> Iterator[None]:
    """A file system that cannot be written for a while."""
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", f"remount,rw,{_TMPFS}", mount], check=True)
