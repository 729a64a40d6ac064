"""onedock-runtime under a real engine: the process is born in the network that the agent has made for it."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support import engine as engines
from tests.support import images
from tests.support.agent import PrivateAgent
from tests.support.engine import RUNTIME, EngineApiError, PrivateEngine
from tests.support.images import Image
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import ContainerId, Network, Nic, VmId

pytestmark = [
    pytest.mark.root,
    pytest.mark.engine,
    pytest.mark.skipif(bool(engines.why_not()), reason=str(engines.why_not())),
]

VM = VmId(22020)
FIRST_WORDS = Image(cmd=("sh", "-c", "ip -o addr show; ip route; exec sleep 86400"))
"""The very first thing that it does is to say what network it finds."""


def network(vm: VmId) -> Network:
    made = Nic(
        index=0,
        name="eth0",
        host_name=f"one-{vm}-0",
        mac="02:00:0a:4e:00:14",
        bridge="odt-rt0",
        addresses=("10.78.0.20/24",),
        gateways=("10.78.0.254",),
    )
    return Network(vm, (made,))


@pytest.fixture
async def client(engine: PrivateEngine) -> AsyncIterator[AgentClient]:
    with PrivateAgent(netns=engine.netns, runtime_dir=engine.runtime_dir) as agent:
        async with AgentClient(agent.socket) as connected:
            yield connected
            await connected.remove(VM)


class Factory:
    """Containers of one test."""

    def __init__(self, engine: PrivateEngine) -> None:
        self._engine = engine
        self._made: list[ContainerId] = []

    def __call__(self, *, mode: str = "none") -> ContainerId:
        body = {
            "Image": images.load(self._engine, FIRST_WORDS, tag="onedock-test:wrapper"),
            "HostConfig": {"NetworkMode": mode, "Runtime": "onedock"},
        }
        self._made.append(ContainerId(self._engine.api("POST", "/containers/create", body)["Id"]))
        return self._made[-1]

    def remove_all(self) -> None:
        for container in self._made:
            with suppress(EngineApiError):
                self._engine.api("DELETE", f"/containers/{container}?force=1")


@pytest.fixture
def create(engine: PrivateEngine) -> Iterator[Factory]:
    factory = Factory(engine)
    yield factory
    factory.remove_all()


def start(engine: PrivateEngine, container: ContainerId) -> None:
    engine.api("POST", f"/containers/{container}/start")


def state(engine: PrivateEngine, container: ContainerId) -> Any:
    return engine.api("GET", f"/containers/{container}/json")["State"]


def namespace_of(engine: PrivateEngine, container: ContainerId) -> int:
    return Path(f"/proc/{state(engine, container)['Pid']}/ns/net").stat().st_ino


def made_namespace() -> int:
    return Path(f"/run/netns/one-{VM}").stat().st_ino


def said(engine: PrivateEngine, container: ContainerId) -> str:
    return str(engine.api("GET", f"/containers/{container}/logs?stdout=1"))


async def test_the_first_instruction_finds_the_network_of_the_vm(
    engine: PrivateEngine, client: AgentClient, create: Factory
) -> None:
    await client.ensure(network(VM))
    container = create()
    await client.bind(VM, container)
    start(engine, container)

    words = await eventually(lambda: "default" in said(engine, container) and said(engine, container), what="it speaks")
    assert "inet 10.78.0.20/24" in str(words)
    assert "default via 10.78.0.254 dev eth0" in str(words)
    assert namespace_of(engine, container) == made_namespace()
    observed = await client.observe(VM)
    assert observed is not None
    assert observed.containers == (container,)
    [usage] = await client.vm_usage([(VM, container, state(engine, container)["Pid"])])
    assert usage.cpu_ns > 0
    assert usage.memory_bytes > 0


async def test_restart_stop_and_start_keep_the_namespace(
    engine: PrivateEngine, client: AgentClient, create: Factory
) -> None:
    made = await client.ensure(network(VM))
    container = create()
    await client.bind(VM, container)
    start(engine, container)
    before = namespace_of(engine, container)
    for calls in (("restart?t=0",), ("stop?t=0", "start"), ("kill", "start")):
        for call in calls:
            engine.api("POST", f"/containers/{container}/{call}")
            if call == "kill":
                await eventually(lambda: not state(engine, container)["Running"], what="it is down")
        assert namespace_of(engine, container) == before
        observed = await client.observe(VM)
        assert observed is not None
        assert observed.nics == made.nics

    engine.api("DELETE", f"/containers/{container}?force=1")
    observed = await client.observe(VM)
    assert observed is not None
    assert observed.nics == made.nics, "the network outlives the process, and the container"


@pytest.mark.parametrize("mode", ["none", "host"])
async def test_an_unbound_container_is_refused_in_clear_words(
    engine: PrivateEngine, create: Factory, mode: str
) -> None:
    container = create(mode=mode)
    with pytest.raises(EngineApiError) as refused:
        start(engine, container)
    assert "onedock-runtime: no network namespace is bound to this container" in str(refused.value)
    assert "is onedock-agent running?" in str(refused.value)
    assert not state(engine, container)["Running"]


async def test_after_removal_of_its_vm_a_container_is_refused(
    engine: PrivateEngine, client: AgentClient, create: Factory
) -> None:
    await client.ensure(network(VM))
    container = create()
    await client.bind(VM, container)
    binding = engine.runtime_dir / container
    kept = binding.read_text()
    await client.remove(VM)
    with pytest.raises(EngineApiError, match="no network namespace is bound to this container"):
        start(engine, container)

    binding.write_text(kept)
    with pytest.raises(EngineApiError, match=f"network namespace /run/netns/one-{VM} is missing"):
        start(engine, container)
    binding.unlink()


async def test_a_container_with_host_network_gets_the_vms_instead(
    engine: PrivateEngine, client: AgentClient, create: Factory
) -> None:
    await client.ensure(network(VM))
    container = create(mode="host")
    await client.bind(VM, container)
    start(engine, container)
    assert namespace_of(engine, container) == made_namespace()


def test_every_other_command_goes_straight_to_runc(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(RUNTIME), *arguments], check=False, capture_output=True, text=True)

    assert run("--version").stdout.startswith("runc version")
    tmp_path.joinpath("create").mkdir()
    root = ["--onedock-runtime-dir=/nowhere", "--root", str(tmp_path / "create")]
    listed = run(*root, "list", "--format", "json")
    assert (listed.returncode, json.loads(listed.stdout)) == (0, None)
    refused = run(*root, "--log", str(tmp_path / "log"), "create", "--bundle", "/b with blank", "$(id)")
    assert refused.returncode == 1
    assert "no network namespace is bound" in (tmp_path / "log").read_text()
