"""What only a real engine can show: pulls from a registry, images that misbehave, an engine that is away."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import images
from tests.support.engine import PrivateEngine
from tests.support.images import Image
from tests.support.registry import CREDENTIALS, PrivateRegistry
from tests.support.waiting import eventually

from onedock.nodeside.docker import DockerEngine
from onedock.reconcilers.errors import TerminalError, TransientError
from onedock.reconcilers.model import ContainerId, ContainerSpec, Phase, VmId

pytestmark = [pytest.mark.root, pytest.mark.engine]

VM = VmId(23101)


@pytest.fixture
async def adapter(engine: PrivateEngine) -> AsyncIterator[DockerEngine]:
    async with DockerEngine(engine.url, runtime="runc") as adapter:
        yield adapter
    for container in engine.api("GET", "/containers/json?all=1"):
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")


def spec_of(engine: PrivateEngine, image: Image = images.IGNORES_TERM) -> ContainerSpec:
    return ContainerSpec(image=images.load(engine, image), hostname="vm-name")


async def create(adapter: DockerEngine, spec: ContainerSpec) -> ContainerId:
    return await adapter.create(VM, instance="i", spec=spec)


async def start(adapter: DockerEngine, spec: ContainerSpec) -> ContainerId:
    container = await create(adapter, spec)
    await adapter.start(container)
    return container


async def unless_transient(call: Coroutine[None, None, ContainerId]) -> ContainerId | None:
    try:
        return await call
    except TransientError:
        return None


def written_outside() -> bool:
    """Whether somebody has followed the link of ETC_ELSEWHERE on the host."""
    return os.path.lexists("/tmp/elsewhere")


def run_inside(engine: PrivateEngine, container: str, *argv: str) -> str:
    body = {"Cmd": argv, "AttachStdout": True, "Tty": True}
    execution = engine.api("POST", f"/containers/{container}/exec", body)["Id"]
    output = engine.api("POST", f"/exec/{execution}/start", {"Tty": True})
    return (output or "").replace("\r", "")


async def test_info_is_what_admission_needs(adapter: DockerEngine, engine: PrivateEngine) -> None:
    info = await adapter.info()
    assert info.live_restore
    assert info.id == engine.api("GET", "/info")["ID"]
    assert info.version == await adapter.ping()
    assert info.cgroup_version in {1, 2}
    assert {"runc", "onedock"} <= set(info.runtimes)


class TestInside:
    async def test_names_and_addresses_are_in_its_files(self, adapter: DockerEngine, engine: PrivateEngine) -> None:
        spec = replace(
            spec_of(engine),
            dns=("192.0.2.53", "2001:db8::53"),
            search=("example.com", "example.net"),
            hosts=(("vm-name", "192.0.2.9"), ("db.example.com", "2001:db8::9")),
        )
        container = await start(adapter, spec)
        resolver = run_inside(engine, container, "cat", "/etc/resolv.conf").splitlines()
        hosts = [line.split() for line in run_inside(engine, container, "cat", "/etc/hosts").splitlines()]
        assert run_inside(engine, container, "hostname").strip() == "vm-name"
        assert "search example.com example.net" in resolver
        assert [x for x in resolver if x.startswith("nameserver")] == [
            "nameserver 192.0.2.53",
            "nameserver 2001:db8::53",
        ]
        assert ["192.0.2.9", "vm-name"] in hosts
        assert ["2001:db8::9", "db.example.com"] in hosts

    async def test_command_environment_directory_and_user(self, adapter: DockerEngine, engine: PrivateEngine) -> None:
        spec = replace(
            spec_of(engine),
            entrypoint=("sh", "-c", "sleep 1000; :"),
            command=('it\'s; $(x) "a"',),
            environment=(("GREETING", "zeile 1\nzeile 2 = ü"),),
            working_dir="/tmp/work",
            user="1000:1000",
        )
        container = await start(adapter, spec)
        process = Path("/proc", str(engine.api("GET", f"/containers/{container}/json")["State"]["Pid"]))

        def greeted() -> bool:  # `start` returns when runc's init may go on; until it has, it is still runc's own
            return "GREETING=zeile 1\nzeile 2 = ü" in process.joinpath("environ").read_text().split("\0")

        await eventually(greeted, what="the command runs with its environment")
        assert process.joinpath("cwd").readlink() == Path("/tmp/work")
        assert 'it\'s; $(x) "a"' in process.joinpath("cmdline").read_text().split("\0")
        assert "Uid:\t1000\t1000\t1000\t1000" in process.joinpath("status").read_text()

    async def test_an_empty_entrypoint_replaces_the_image_s(self, adapter: DockerEngine, engine: PrivateEngine) -> None:
        spec = spec_of(engine, Image(entrypoint=("/no/such/entrypoint",)))
        container = await start(adapter, replace(spec, entrypoint=(), command=("sleep", "1000")))
        assert engine.api("GET", f"/containers/{container}/json")["State"]["Running"]

    async def test_a_shell_as_command_stays(self, adapter: DockerEngine, engine: PrivateEngine) -> None:
        container = await start(adapter, spec_of(engine, images.SHELL_COMMAND))
        # An exec that answers proves that the shell has had its turn at an end of input.
        run_inside(engine, container, "sleep", "0.2")
        assert engine.api("GET", f"/containers/{container}/json")["State"]["Running"]

    @pytest.mark.parametrize("image", [images.NO_SHELL, images.ETC_ELSEWHERE, images.HUGE_ENVIRONMENT])
    async def test_odd_images_run(self, adapter: DockerEngine, engine: PrivateEngine, image: Image) -> None:
        await start(adapter, spec_of(engine, image))
        found = await adapter.find(VM)
        assert found is not None
        assert found.phase is Phase.RUNNING
        assert not written_outside()


class TestRefusals:
    async def test_an_image_that_starts_below_proc(self, adapter: DockerEngine, engine: PrivateEngine) -> None:
        with pytest.raises(TerminalError, match="working directory '/proc/self/fd/8' is not allowed"):
            await create(adapter, spec_of(engine, images.WORKDIR_IN_PROC))
        assert await adapter.find(VM) is None

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"command": ("foo",)}, 'the command "foo" is not in the image: executable file not found'),
            ({"command": ("/bin",)}, 'the command "/bin" cannot be executed: '),
            ({"user": "nobodyhere"}, 'the user "nobodyhere" is not in the image: '),
            ({"user": "0:nogroup"}, 'the group "nogroup" is not in the image: '),
        ],
    )
    async def test_starts_that_cannot_work(
        self, adapter: DockerEngine, engine: PrivateEngine, changes: dict[str, object], text: str
    ) -> None:
        container = await create(adapter, replace(spec_of(engine), **changes))  # type: ignore[arg-type]
        with pytest.raises(TerminalError) as caught:
            await adapter.start(container)
        assert str(caught.value).startswith(text)
        assert "\n" not in str(caught.value)

    async def test_an_image_without_a_command(self, adapter: DockerEngine, engine: PrivateEngine) -> None:
        with pytest.raises(TerminalError, match=r"(?i)no command specified"):
            await create(adapter, spec_of(engine, Image(cmd=None)))

    async def test_an_unknown_runtime(self, engine: PrivateEngine) -> None:
        spec = spec_of(engine)
        async with DockerEngine(engine.url, runtime="nothing") as adapter:
            with pytest.raises(TerminalError, match=r"(?i)unknown .*runtime .*nothing"):
                await create(adapter, spec)


class TestPulls:
    @pytest.fixture
    def reference(self, registry: PrivateRegistry, tmp_path: Path) -> str:
        archive = tmp_path / "image.tar"
        images.write_docker_archive(archive, Image(files=(("random", tmp_path.name.encode() * 100_000),)))
        return registry.push(archive, "tests/pulls")

    async def test_one_pull_for_all_who_want_it(self, engine: PrivateEngine, reference: str) -> None:
        seen: list[tuple[str, int, int]] = []
        async with DockerEngine(engine.url, on_progress=lambda *progress: seen.append(progress)) as adapter:
            gives_up = asyncio.create_task(adapter.pull(reference))
            others = [asyncio.create_task(adapter.pull(reference)) for _ in range(5)]
            await asyncio.sleep(0)
            gives_up.cancel()
            await asyncio.gather(*others)
            assert await adapter.image_present(reference)
            await adapter.remove_image(reference)
            assert not await adapter.image_present(reference)
        assert seen
        assert all(image == reference and 0 <= now <= total for image, now, total in seen)
        assert seen[-1][1] == seen[-1][2]

    async def test_a_registry_that_is_down_may_come_back(self, adapter: DockerEngine) -> None:
        with pytest.raises(TransientError, match="connection refused"):
            await adapter.pull(f"127.0.0.1:9/tests/image@sha256:{'0' * 64}")

    async def test_a_repository_that_is_not_there(self, adapter: DockerEngine, registry: PrivateRegistry) -> None:
        with pytest.raises(TerminalError, match="the registry does not have the image"):
            await adapter.pull(f"{registry.address}/tests/nothing@sha256:{'0' * 64}")

    async def test_credentials_open_a_protected_registry(self, engine: PrivateEngine, tmp_path: Path) -> None:
        archive, auth_file = tmp_path / "image.tar", tmp_path / "auth.json"
        images.write_docker_archive(archive)
        with PrivateRegistry(protected=True, reachable_in=(engine.netns,)) as registry:
            reference = registry.push(archive, "tests/protected")
            entry = {"auth": base64.b64encode(CREDENTIALS.encode()).decode()}
            auth_file.write_text(json.dumps({"auths": {registry.address: entry}}))
            async with DockerEngine(engine.url) as stranger, DockerEngine(engine.url, auth_file=auth_file) as friend:
                with pytest.raises(TerminalError, match="the registry refuses the credentials"):
                    await stranger.pull(reference)
                await friend.pull(reference)
                assert await stranger.image_present(reference)
                await friend.remove_image(reference)


class TestAway:
    async def test_no_engine_at_all(self, tmp_path: Path) -> None:
        async with DockerEngine(f"unix://{tmp_path}/nothing.sock") as adapter:
            with pytest.raises(TransientError, match="the engine cannot be reached"):
                await adapter.find(VM)

    async def test_an_address_that_makes_no_sense(self) -> None:
        with pytest.raises(TerminalError, match="neither unix"):
            await DockerEngine("tcp://127.0.0.1:2375").__aenter__()

    async def test_a_frozen_engine_is_given_up_after_the_deadline(
        self, adapter: DockerEngine, engine: PrivateEngine
    ) -> None:
        engine.freeze_dockerd()
        try:
            with pytest.raises(TransientError, match="did not answer"):
                await adapter.ping()
        finally:
            engine.thaw_dockerd()
        await adapter.ping()

    async def test_an_abandoned_create_is_adopted(self, adapter: DockerEngine, engine: PrivateEngine) -> None:
        spec = spec_of(engine)
        abandoned = asyncio.create_task(create(adapter, spec))
        await asyncio.wait({abandoned}, timeout=0.004)
        abandoned.cancel()
        await asyncio.gather(abandoned, return_exceptions=True)
        first = await eventually(lambda: unless_transient(create(adapter, spec)))
        assert [container.id for container in await adapter.list_ours()] == [first]

    async def test_containers_are_the_same_after_a_kill_of_the_engine(
        self, adapter: DockerEngine, engine: PrivateEngine
    ) -> None:
        container = await start(adapter, spec_of(engine))
        before = await adapter.find(VM)
        await asyncio.to_thread(engine.kill_dockerd)
        with pytest.raises(TransientError, match="cannot be reached"):
            await adapter.stop(container, grace_s=None)
        await asyncio.to_thread(engine.start_dockerd)
        after = await eventually(lambda: adapter.find(VM))
        assert after == before
