"""The lab as a whole: every part up, in order, and everything down again, without a trace."""

import contextlib
import fcntl
import os
import random
import shutil
import sqlite3
import sys
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path

from onedock.lab import bridge, engine, registry, remains, settings_file
from onedock.lab.errors import LabError
from onedock.lab.layout import OWN_ENGINE, Choices, Layout, free_port
from onedock.lab.processes import Part, end, ensure, marked, others_running, running, stop
from onedock.lab.unix_http import answers
from onedock.nodeside.agent import namespaces

Say = Callable[[str], None]

PROGRAMS = {
    "dockerd": "docker.io", "containerd": "containerd", "runc": "runc", "docker-registry": "docker-registry",
    "skopeo": "skopeo", "ip": "iproute2", "busybox": "busybox-static",
}  # fmt: skip
"""What the lab starts, and the Debian package that has it."""
PARTS = ("registry", "containerd", "dockerd", "opennebula", "agent", "controller")
_ONLY_OWN_ENGINE = ("dockerd", "containerd", "runc")
_FAR_OFF = (1_000_000, 9_000_000, 1000)


def need_root() -> None:
    """Raises LabError for everybody else."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root for network namespaces, a bridge and an engine; run:  sudo make demo")


@contextlib.contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """Keep a second command on the same lab waiting out. Raises LabError when one is at work."""
    with (Path("/run") / f"{layout.run.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"another command is at work on {layout.state}; wait for its end, then try again") from None
        try:
            yield
        finally:
            Path(lock.name).unlink(missing_ok=True)


def up(layout: Layout, engine_address: str, say: Say) -> Choices:
    """Have every part running; what runs already is left alone.

    Raises LabError with cause and remedy.
    """
    layout.check()
    _need_programs(engine_address)
    for directory in (layout.state / "log", layout.state / "pid", layout.runtime_dir):
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    choices = layout.read_choices() or _choose(layout, engine_address, say)
    if engine_address and choices.engine != engine_address:
        raise LabError(f"this lab was made with engine {choices.engine}; end it (make demo-stop) to use another one")
    bridge.ensure(layout, choices)
    say(f"bridge {choices.bridge}: {choices.subnet}.1/24")
    _start(layout, registry.part(layout, choices), f"127.0.0.1:{choices.registry_port}", say)
    if choices.engine == OWN_ENGINE:
        for part in engine.parts(layout, choices):
            _start(layout, part, f"{layout.run}/{part.name.replace('dockerd', 'docker')}.sock", say)
    else:
        engine.check_running(layout, choices)
        say(f"engine {choices.engine}: runs, has the runtime onedock")
    settings_file.write(layout, choices)
    for part, where in _own_parts(layout, choices):
        _start(layout, part, where, say)
    return choices


def down(layout: Layout, say: Say) -> None:
    """End every part and remove everything that the lab has made; what is not there is passed over."""
    if not (layout.state.exists() or layout.run.exists() or any(marked(layout))):
        say(f"there is no lab in {layout.state}: nothing to remove")
        return
    choices = layout.read_choices()
    for part in ("controller", "opennebula"):
        if stop(layout, part):
            say(f"{part}: ended")
    if choices is not None:
        say(f"containers: {engine.remove_vms(layout, choices)} removed")
    stop(layout, "agent")
    networks = remains.remove_networks(layout)
    say(f"networks of VMs: {len(networks)} removed")
    engine.stop_own(layout)
    stop(layout, "registry")
    for pid in marked(layout):
        end(pid)
    say("engine, registry, agent: ended")
    bridge.remove(layout)
    remains.remove_cgroups(layout.cgroup)
    remains.remove_directories(layout.run, layout.state)
    say(f"{layout.state} and {layout.run}: removed")


def status(layout: Layout, say: Say) -> bool:
    """Say for each part whether it runs; returns whether all do."""
    choices = layout.read_choices()
    if choices is None:
        say(f"there is no lab in {layout.state}; make demo makes one")
        return False
    wanted = [part for part in PARTS if choices.engine == OWN_ENGINE or part not in _ONLY_OWN_ENGINE]
    pids = {part: running(layout, part) for part in wanted}
    for part, pid in pids.items():
        say(f"{part:<11} {f'process {pid}' if pid else 'does not run':<16} {layout.log(part)}")
    return all(pids.values())


def _start(layout: Layout, part: Part, where: str, say: Say) -> None:
    started = ensure(layout, part)
    say(f"{part.name}: {'started' if started else 'runs already'}, {where}")


def _own_parts(layout: Layout, choices: Choices) -> list[tuple[Part, str]]:
    environment = (("ONEDOCK_CONFIG", str(layout.configuration)),)
    sockets = {name: layout.run / f"{name}.sock" for name in ("driver", "api", "agent")}
    endpoint = layout.environment(choices)["ONE_XMLRPC"]
    drivers = {name: f"{layout.bin / name} --socket {sockets['driver']}" for name in ("onedock-vmm", "onedock-im")}
    opennebula = Part(
        "opennebula",
        [sys.executable, "-m", "onedock.lab.opennebula", "--dir", str(layout.state / "one"),
         "--port", str(choices.one_port), "--monitor-port", str(choices.monitor_port),
         "--vmm", drivers["onedock-vmm"], "--im", drivers["onedock-im"],
         "--remotes", str(layout.state / "remotes"), "--auth-file", str(layout.one_auth)],
        lambda: _opennebula_answers(endpoint),
        (*environment, ("ONEDOCK_DRIVER_SOCKET", str(sockets["driver"]))),
    )  # fmt: skip
    agent = [sys.executable, "-m", "onedock.nodeside.agent"]
    controller = [sys.executable, "-m", "onedock.controller"]
    return [
        (opennebula, endpoint),
        (Part("agent", agent, lambda: answers(sockets["agent"], "/health"), environment), str(sockets["agent"])),
        (Part("controller", controller, lambda: answers(sockets["api"], "/health"), environment), str(sockets["api"])),
    ]


def _opennebula_answers(endpoint: str) -> bool:
    try:
        with xmlrpc.client.ServerProxy(endpoint) as server:
            server.one.system.version("nobody:nothing")  # refused, which is an answer too
    except (OSError, xmlrpc.client.ProtocolError):
        return False
    except xmlrpc.client.Error:
        return True
    return True


def _need_programs(engine_address: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    programs = [name for name in PROGRAMS if not (engine_address and name in _ONLY_OWN_ENGINE)]
    if missing := [name for name in programs if shutil.which(name, path=path) is None]:
        packages = " ".join(PROGRAMS[name] for name in missing)
        raise LabError(f"missing: {', '.join(missing)}; run make deps, or install packages {packages}")


def _choose(layout: Layout, engine_address: str, say: Say) -> Choices:
    taken: set[int] = set()
    name, subnet = bridge.choose(layout)
    choices = Choices(
        bridge=name,
        subnet=subnet,
        one_port=free_port(26330, taken),
        monitor_port=free_port(24124, taken),
        registry_port=free_port(25000, taken),
        first_vm=_first_vm(say),
        engine=engine_address or OWN_ENGINE,
    )
    if engine_address:
        engine.check_running(layout, choices)
    layout.write_choices(choices)
    _number_vms_from(layout, choices.first_vm)
    return choices


def _first_vm(say: Say) -> int:
    """0, or far off the ids of another OpenNebula: namespaces and links of a whole machine are named after VM ids."""
    signs = [f"namespace {name}" for name in namespaces.names() if name.startswith("one-") and name[4:].isdecimal()]
    signs += [f"process {pid}" for pid in others_running("onedock-agent", "onedock.nodeside.agent")]
    signs += [str(file) for file in [Path("/etc/one/oned.conf")] if file.exists()]
    if not signs:
        return 0
    first = random.randrange(*_FAR_OFF)  # noqa: S311 - so that two labs do not meet either
    say(f"another OpenNebula with containers may be on this machine ({signs[0]}): VM ids here begin with {first}")
    return first


def _number_vms_from(layout: Layout, first: int) -> None:
    directory = layout.state / "one"
    directory.mkdir(exist_ok=True)
    with contextlib.closing(sqlite3.connect(directory / "one.db", isolation_level=None)) as state:
        state.execute("CREATE TABLE IF NOT EXISTS last_id (kind TEXT PRIMARY KEY, next INT)")
        state.execute("INSERT OR IGNORE INTO last_id VALUES ('Vm', ?)", (first,))
