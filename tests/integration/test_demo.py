"""``make demo`` from nothing to nothing: brought up, walked through, hurt, healed, and removed without a trace."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import processes
from tests.support.processes import wait_until

from onedock.lab.cloud import PROGRAMS
from onedock.lab.layout import MARK, Layout
from onedock.lab.unix_http import ask

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.timeout(300)]

SHIM_SOCKETS = Path("/run/containerd/s")


@pytest.fixture
def lab() -> Iterator[Layout]:
    if os.geteuid() != 0:
        pytest.skip("the demo needs root: network namespaces, a bridge, an engine")
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"the demo needs {', '.join(missing)} in PATH")
    directory = Path(tempfile.mkdtemp(prefix=f"{processes.RUN}-lab-", dir="/var/tmp"))
    layout = Layout(directory / "state")
    yield layout
    run(layout, "down")
    directory.rmdir()


def run(layout: Layout, *arguments: str, status: int = 0) -> str:
    """``python -m onedock.lab``; returns what it printed."""
    argv = [sys.executable, "-m", "onedock.lab", "--state", str(layout.state), *arguments]
    ended = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
    assert ended.returncode == status, ended.stdout
    return ended.stdout


def marked(layout: Layout) -> list[int]:
    """Living processes of the lab."""
    found = []
    for pid in processes.pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{MARK}={layout.state}".encode() in environment and processes.alive(pid):
            found.append(pid)
    return found


def links() -> dict[str, str]:
    shown = subprocess.run(["ip", "-json", "link"], check=True, capture_output=True, text=True).stdout
    return {link["ifname"]: link.get("ifalias", "") for link in json.loads(shown)}


def pid_of(layout: Layout, part: str) -> int:
    return int((layout.state / "pid" / part).read_text())


def shim_sockets() -> set[str]:
    return {path.name for path in SHIM_SOCKETS.iterdir()} if SHIM_SOCKETS.is_dir() else set()


def test_demo_from_nothing_to_nothing(lab: Layout) -> None:
    sockets_before, links_before = shim_sockets(), links()
    told = run(lab, "demo")
    choices = json.loads((lab.state / "lab.json").read_text())
    vm = choices["first_vm"]
    assert f"$ onevm create --name web-1 --memory 512 --cpu 1 --disk web --nic private --net_context\nID: {vm}" in told
    assert "Hello from VM web-1: started 1 time(s)" in told
    assert "Hello from VM web-1: started 2 time(s)" in told
    assert re.search(rf"{vm} oneadmin web-1 +poff", told)
    assert "exit code 137 (SIGKILL)" in told
    assert "make demo-stop" in told
    assert "does not run" not in run(lab, "status")
    parts = {path.name: pid_of(lab, path.name) for path in (lab.state / "pid").iterdir()}

    # Everything that runs is left alone the second time.
    again = run(lab, "demo")
    assert "started, " not in again
    assert "Hello from VM web-1: started 3 time(s)" in again
    assert parts == {name: pid_of(lab, name) for name in parts}

    # After a crash of several parts, the dead ones are started and the VM is there as before.
    for part in ("controller", "dockerd", "opennebula"):
        processes.kill_now(pid_of(lab, part))
    assert "does not run" in run(lab, "status", status=1)
    healed = run(lab, "demo")
    assert "agent: runs already" in healed
    assert "dockerd: started" in healed
    assert "Hello from VM web-1: started 4 time(s)" in healed

    run(lab, "down")
    assert not lab.state.exists()
    assert not lab.run.exists()
    assert not marked(lab)
    assert choices["bridge"] not in links()
    assert not [name for name in set(links()) - set(links_before) if name.startswith(f"one-{vm}-")]
    assert not Path(f"/run/netns/one-{vm}").exists()
    assert not [str(path) for path in Path("/sys/fs/cgroup").rglob(lab.cgroup)]
    assert not processes.mounts_below(lab.state)
    assert "nothing to remove" in run(lab, "down")
    wait_until(lambda: not shim_sockets() - sockets_before, within=10, what="no socket of a shim is left")


def test_a_lab_whose_engine_died_is_removed_all_the_same(lab: Layout) -> None:
    run(lab, "demo")
    vm = json.loads((lab.state / "lab.json").read_text())["first_vm"]
    for part in ("dockerd", "containerd", "agent"):
        processes.kill_now(pid_of(lab, part))
    run(lab, "down")
    assert not marked(lab)
    assert not lab.state.exists()
    assert not lab.run.exists()
    assert not Path(f"/run/netns/one-{vm}").exists()
    assert not [str(path) for path in Path("/sys/fs/cgroup").rglob(lab.cgroup)]


def test_a_failure_names_cause_remedy_and_log(lab: Layout) -> None:
    run(lab, "up")
    os.kill(pid_of(lab, "registry"), signal.SIGKILL)
    wait_until(lambda: not processes.alive(pid_of(lab, "registry")), within=5, what="the registry is dead")
    lab_json = lab.state / "lab.json"
    chosen = json.loads(lab_json.read_text())
    lab_json.write_text(json.dumps(chosen | {"registry_port": chosen["one_port"]}))
    told = run(lab, "up", status=1)
    assert "registry ended at once" in told
    assert str(lab.log("registry")) in told
    lab_json.write_text(json.dumps(chosen))
    told = run(lab, "up", "--engine", "unix:///nowhere/docker.sock", status=1)
    assert "make demo-stop" in told


def test_a_running_engine_is_used_only_when_it_has_the_runtime(lab: Layout) -> None:
    """The engine of one lab is the running engine of another."""
    owner = Layout(lab.state.with_name("owner"))
    try:
        run(owner, "up")
        address = f"unix://{owner.run}/docker.sock"
        told = run(lab, "up", "--engine", "unix:///nowhere/docker.sock", status=1)
        assert "no engine answers at /nowhere/docker.sock" in told
        told = run(lab, "up", "--engine", "tcp://127.0.0.1:2375", status=1)
        assert "only unix:///path/to/docker.sock" in told
        told = run(lab, "up", "--engine", address, status=1)
        assert "another runtime 'onedock'" in told

        registration = json.loads(told[told.index("\n{") :])
        daemon_json = owner.state / "daemon.json"
        daemon_json.write_text(json.dumps(json.loads(daemon_json.read_text()) | registration))
        os.kill(pid_of(owner, "dockerd"), signal.SIGHUP)
        wait_until(lambda: str(lab.run) in (owner.log("dockerd")).read_text(), within=10, what="dockerd has reloaded")
        told = run(lab, "demo", "--engine", address)
        assert "Hello from VM web-1: started 2 time(s)" in told
        assert not (lab.state / "pid" / "dockerd").exists()
        run(lab, "down")
        assert "dockerd     process" in run(owner, "status")
        for kind in ("containers/json?all=1", "images/json"):
            assert ask(owner.run / "docker.sock", "GET", f"/{kind}") == []
    finally:
        run(lab, "down")
        run(owner, "down")
