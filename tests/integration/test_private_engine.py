"""The tests' own engine and registry: they work together, and leave nothing even after the worst."""

from pathlib import Path

import pytest
from tests.support import engine as engines
from tests.support import images
from tests.support import registry as registries
from tests.support.engine import EngineApiError, PrivateEngine
from tests.support.leaks import assert_nothing_leaked, snapshot
from tests.support.registry import PrivateRegistry

pytestmark = [
    pytest.mark.root,
    pytest.mark.engine,
    pytest.mark.skipif(bool(engines.why_not()), reason=str(engines.why_not())),
    pytest.mark.skipif(bool(registries.why_not()), reason=str(registries.why_not())),
]


def start_container(engine: PrivateEngine) -> str:
    body = {"Image": images.load(engine), "HostConfig": {"NetworkMode": "none"}}
    container: str = engine.api("POST", "/containers/create", body)["Id"]
    engine.api("POST", f"/containers/{container}/start")
    return container


@pytest.mark.parametrize("death", ["none", "killed", "frozen"])
def test_nothing_is_left_whatever_happened_to_dockerd(death: str) -> None:
    before = snapshot()
    with PrivateEngine() as engine:
        start_container(engine)
        if death == "killed":
            engine.kill_dockerd()
        elif death == "frozen":
            engine.freeze_dockerd()
    assert_nothing_leaked(before, snapshot())


def test_a_container_survives_a_killed_dockerd() -> None:
    with PrivateEngine() as engine:
        container = start_container(engine)
        before = engine.api("GET", f"/containers/{container}/json")["State"]
        engine.restart_dockerd(kill=True)
        after = engine.api("GET", f"/containers/{container}/json")["State"]
    assert after["Running"]
    assert after["Pid"] == before["Pid"]


def test_engines_have_ids_of_their_own(engine: PrivateEngine) -> None:
    with PrivateEngine() as other:
        assert other.api("GET", "/info")["ID"] != engine.api("GET", "/info")["ID"]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_the_engine_pulls_what_was_pushed(
    engine: PrivateEngine, registry: PrivateRegistry, tmp_path: Path, form: str
) -> None:
    archive = tmp_path / "image.tar"
    write = images.write_docker_archive if form == "docker-archive" else images.write_oci_archive
    write(archive, images.NO_SHELL)
    reference = registry.push(archive, f"tests/{form}:1", form=form)
    with pytest.raises(EngineApiError):
        engine.api("GET", f"/images/{reference}/json")
    engine.api("POST", f"/images/create?fromImage={reference}")
    assert engine.api("GET", f"/images/{reference}/json")["Config"]["Cmd"] == ["sleep", "86400"]
    engine.api("DELETE", f"/images/{reference}")


def test_a_protected_registry_wants_credentials(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    images.write_docker_archive(archive)
    with PrivateRegistry(protected=True) as registry:
        reference = registry.push(archive, "tests/protected")
    assert reference.startswith(f"{registry.address}/tests/protected@sha256:")
