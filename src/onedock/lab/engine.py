"""The lab's Docker engine: one of its own, or one that runs on this machine already and is only used.

An own engine has its own containerd, because a dockerd that manages one leaves stale pid files when it is killed.
It lives in the machine's network namespace with the lab's bridge as its default one: with none at all it would
delete ``docker0``.
"""

import json
from contextlib import suppress
from pathlib import Path

from onedock.lab import remains
from onedock.lab.errors import LabError
from onedock.lab.layout import OWN_ENGINE, Choices, Layout
from onedock.lab.processes import Part, descendants, end, marked, stop
from onedock.lab.unix_http import answers, ask
from onedock.nodeside import runtime

RUNTIME = Path(runtime.__file__).with_name("onedock-runtime")
LABEL = "org.onedock.vm"


def parts(layout: Layout, choices: Choices) -> list[Part]:
    """The daemons of an own engine; none for a running one."""
    if choices.engine != OWN_ENGINE:
        return []
    socket = layout.engine_socket(choices)
    containerd = layout.run / "containerd.sock"
    # A killed dockerd leaves its pid file, and the next one believes it if the number is in use again.
    if not answers(socket, "/_ping"):
        (layout.run / "docker.pid").unlink(missing_ok=True)
    (layout.state / "containerd.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    (layout.state / "daemon.json").write_text(json.dumps(_configuration(layout, choices), indent=1) + "\n")
    return [
        Part(
            "containerd",
            ["containerd", "--config", str(layout.state / "containerd.toml"), "--address", str(containerd),
             "--root", str(layout.state / "containerd"), "--state", str(layout.run / "containerd")],
            containerd.is_socket,
        ),
        Part(
            "dockerd",
            ["dockerd", "--config-file", str(layout.state / "daemon.json")],
            lambda: answers(socket, "/_ping"),
        ),
    ]  # fmt: skip


def _configuration(layout: Layout, choices: Choices) -> dict[str, object]:
    return {
        "hosts": [f"unix://{layout.engine_socket(choices)}"],
        "containerd": str(layout.run / "containerd.sock"),
        "data-root": str(data_root(layout, choices)),
        "exec-root": str(layout.run / "exec"),
        "pidfile": str(layout.run / "docker.pid"),
        "deprecated-key-path": str(layout.state / "docker-key.json"),
        "cgroup-parent": f"/{layout.cgroup}",
        # systemd's driver, the default on control groups v2, takes only the names of slices as parents.
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "bridge": choices.bridge,
        "iptables": False,
        "ip-forward": False,
        "userland-proxy": False,
        "live-restore": True,
        "runtimes": registration(layout),
    }


def registration(layout: Layout) -> dict[str, dict[str, object]]:
    """The ``runtimes`` of a daemon.json."""
    return {"onedock": {"path": str(RUNTIME), "runtimeArgs": [f"--onedock-runtime-dir={layout.runtime_dir}"]}}


def data_root(layout: Layout, choices: Choices) -> Path:
    """The engine's data directory."""
    if choices.engine == OWN_ENGINE:
        return layout.state / "docker"
    return Path(ask(layout.engine_socket(choices), "GET", "/info")["DockerRootDir"])


def check_running(layout: Layout, choices: Choices) -> None:
    """Raises LabError unless a running engine answers and has the runtime of this lab."""
    socket = layout.engine_socket(choices)
    try:
        runtimes = ask(socket, "GET", "/info")["Runtimes"]
    except (OSError, LabError) as error:
        raise LabError(
            f"no engine answers at {socket}: {error}; start it, or leave --engine out: the lab then has its own"
        ) from error
    wanted = registration(layout)["onedock"]
    found = runtimes.get("onedock", {})
    if found.get("path") == wanted["path"] and found.get("runtimeArgs", []) == wanted["runtimeArgs"]:
        return
    raise LabError(
        f"the engine at {socket} has {'another' if found else 'no'} runtime 'onedock', and the lab does not change it "
        "unasked; merge this into its daemon.json, then  kill -HUP $(pidof dockerd)  (nothing is restarted):\n"
        + json.dumps({"runtimes": registration(layout)}, indent=2)
    )


def remove_vms(layout: Layout, choices: Choices) -> int:
    """Remove the lab's containers and, from an engine that is not its own, its images; returns how many VMs there were.

    Those are labelled as VMs and made of images of the lab's registry, which no other has.
    """
    socket = layout.engine_socket(choices)
    source = f"127.0.0.1:{choices.registry_port}/"
    count = 0
    with suppress(OSError):  # an own engine that is dead is removed with all it has, a foreign one has nothing then
        for container in ask(socket, "GET", "/containers/json?all=1"):
            if LABEL in container["Labels"] and container["Image"].startswith(source):
                ask(socket, "DELETE", f"/containers/{container['Id']}?force=1&v=1")
                count += 1
        if choices.engine != OWN_ENGINE:
            for image in ask(socket, "GET", "/images/json"):
                for name in image["RepoDigests"] or ():
                    if name.startswith(source):
                        ask(socket, "DELETE", f"/images/{name}?force=1")
    return count


def stop_own(layout: Layout) -> None:
    """End an own engine and, where its daemons died before their containers, what they left running."""
    stop(layout, "dockerd")
    for pid in marked(layout):
        if _program(pid).startswith("containerd-shim"):
            sockets = remains.sockets_of(pid)
            for one in [*reversed(descendants(pid)), pid]:
                end(one, grace=0)
            for path in sockets:  # containerd keeps these in /run/containerd/s, whatever its own directories are
                path.unlink(missing_ok=True)
    stop(layout, "containerd")


def _program(pid: int) -> str:
    try:
        return Path(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")).name
    except OSError:
        return ""
