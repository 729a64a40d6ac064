"""The real scripts of transfer manager and datastore, as oned's runners start them."""

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.driver_controller import DriverController, Message
from tests.support.processes import wait_until
from tests.support.recorded import records

from onedock.controller.driver.layout import DATASTORE_ACTIONS, TM_ACTIONS, lay_out


def answer(request: Message) -> Message:
    return {
        "code": 3 if request["action"] == "delete" else 0,
        "stdout": f"{request['action']} done ä\n",
        "stderr": "INFO: looked\n" if request["argv"] else "",
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "driver.sock"


@pytest.fixture
def controller(path: Path) -> Iterator[DriverController]:
    with DriverController(path, script=answer) as running:
        yield running


@pytest.fixture(scope="module")
def remotes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("remotes")
    lay_out(directory)
    return directory


def start(script: Path, *argv: str, path: Path, patience_s: float = 600) -> subprocess.Popen[bytes]:
    """Standard input stays an open pipe until ``communicate``: a script that reads it without need hangs."""
    environment = {"ONEDOCK_DRIVER_SOCKET": str(path), "ONEDOCK_DRIVER_PATIENCE": str(patience_s)}
    return subprocess.Popen(
        [script, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
    )


def finish(process: subprocess.Popen[bytes], stdin: bytes = b"") -> tuple[int, str, str]:
    out, err = process.communicate(stdin, timeout=20)
    return process.returncode, out.decode(), err.decode()


def test_recorded_calls_reach_the_controller(controller: DriverController, path: Path, remotes: Path) -> None:
    calls = records("scripts")
    assert len(calls) == 66
    for call in calls:
        action = call["action"]
        stdin = base64.b64encode(call.get("xml", "").encode())
        result = finish(start(remotes / call["kind"] / "onedock" / action, *call["argv"], path=path), stdin)
        assert result == (3 if action == "delete" else 0, f"{action} done ä\n", "INFO: looked\n")
        request = controller.requests[-1]
        assert (request["action"], request["argv"]) == (action, call["argv"])
        assert request["stdin"] == stdin.decode()
        assert controller.hellos[-1]["hello"] == call["kind"]
    assert len({request["request"] for request in controller.requests}) == 66


def test_scripts_that_get_no_input_do_not_wait_for_it(controller: DriverController, path: Path, remotes: Path) -> None:
    process = start(remotes / "tm/onedock/clone", "docker://x", "node1:/disk.0", "7", "100", path=path)
    assert process.wait(10) == 0
    finish(process)
    assert controller.requests[0]["stdin"] == ""


@pytest.mark.parametrize("action", ["premigrate", "postbackup_live", "monitor"])
def test_scripts_that_get_input_pass_it_on(
    controller: DriverController, path: Path, remotes: Path, action: str
) -> None:
    assert finish(start(remotes / "tm/onedock" / action, "1", path=path), b"<VM>\xff</VM>")[0] == 0
    assert controller.requests[0]["stdin"] == "<VM>\udcff</VM>"


def test_a_suffix_stays_in_the_name(controller: DriverController, path: Path, remotes: Path) -> None:
    script = remotes / "tm/onedock/clone.ssh"
    script.symlink_to("clone")
    assert finish(start(script, "a b", path=path))[0] == 0
    script.unlink()
    assert (controller.requests[0]["action"], controller.requests[0]["argv"]) == ("clone.ssh", ["a b"])


def test_a_restart_of_the_controller_is_survived(path: Path, remotes: Path) -> None:
    attempts: list[Message] = []

    def die_first(request: Message) -> Message:
        attempts.append(request)
        if len(attempts) == 1:
            raise ConnectionAbortedError
        return answer(request)

    process = start(remotes / "tm/onedock/clone", "a", path=path)
    with DriverController(path, script=die_first) as controller:
        wait_until(lambda: len(attempts) == 1, within=10, what="first attempt")
        controller.stop()
        controller.start()
        assert finish(process) == (0, "clone done ä\n", "INFO: looked\n")
    assert attempts[0] == attempts[1]


@pytest.mark.parametrize("script", ["tm/onedock/clone", "datastore/onedock/stat"])
def test_without_a_controller_it_fails_with_the_reason(path: Path, remotes: Path, script: str) -> None:
    code, out, err = finish(start(remotes / script, "0", path=path, patience_s=0.2))
    assert (code, out) == (1, "")
    assert err == (
        f"ONEDock controller did not answer at {path} ([Errno 2] No such file or directory);"
        " start onedock-controller, retry\n"
    )


def test_without_a_controller_it_ends_with_whom_it_would_answer(path: Path, remotes: Path) -> None:
    process = start(remotes / "datastore/onedock/monitor", "0", path=path)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.close()
    process.stdout.close()  # as when oned was killed
    assert process.wait(timeout=20) == 1
    assert b"did not answer" in process.stderr.read()
    process.stderr.close()


def test_stat_does_not_wait_longer_than_oned(path: Path, remotes: Path) -> None:
    class Silent(DriverController):
        def _serve(self, connection: object) -> None:
            """A controller that has stopped."""

    with Silent(path):
        code, _, err = finish(start(remotes / "datastore/onedock/stat", "0", path=path, patience_s=0.3))
    assert code == 1
    assert "timed out" in err


def test_a_script_outside_of_the_layout_says_so(path: Path, remotes: Path) -> None:
    code, _, err = finish(start(remotes / "tm/onedock/../../tm/onedock/action.py", path=path, patience_s=0.1))
    assert code == 1
    stray = remotes / "action.py"
    stray.write_bytes((remotes / "tm/onedock/action.py").read_bytes())
    stray.chmod(0o755)
    code, _, err = finish(start(stray, path=path))
    stray.unlink()
    assert (code, "neither a tm nor a datastore script" in err) == (1, True)


def test_the_layout_can_be_renewed_and_copied(remotes: Path) -> None:
    lay_out(remotes)
    for kind, actions in (("tm", TM_ACTIONS), ("datastore", DATASTORE_ACTIONS)):
        directory = remotes / kind / "onedock"
        assert {entry.name for entry in directory.iterdir()} == {*actions, "action.py"}
        for name in actions:
            assert (directory / name).readlink() == Path("action.py")
            assert os.access(directory / name, os.X_OK)
