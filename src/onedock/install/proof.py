"""A throw-away container through onedock-runtime: the proof that a node can run VMs.

Its image is empty; what runs in it is the node's own ``sleep``, seen through read-only mounts. Nothing is pulled.
"""

import contextlib
import io
import secrets
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

from onedock.install.engine import Engine
from onedock.install.steps import InstallError
from onedock.nodeside.agent import namespaces

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_SLEEP = "/usr/bin/sleep"


def prove(engine: Engine, runtime: str, bindings: Path) -> None:
    """Start a container in a new network namespace, look that it is there, remove both. Raises InstallError.

    Args:
        engine: where.
        runtime: name of onedock-runtime in the engine.
        bindings: the agent's ``runtime_dir``.
    """
    name = f"onedock-proof-{secrets.token_hex(4)}"
    with _namespace(name) as namespace, _image(engine, name) as image, _container(engine, name, image, runtime) as made:
        binding = bindings / made
        binding.write_text(str(namespace))
        try:
            engine.call("POST", f"/containers/{made}/start")
            pid = engine.call("GET", f"/containers/{made}/json")["State"]["Pid"]
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/ns/net").stat().st_ino == namespace.stat().st_ino:
                    return
            raise InstallError(
                f"the container of the proof is not in the network that was made for it: runtime {runtime!r} of "
                "the engine is not onedock-runtime, or something replaces what it writes"
            )
        finally:
            binding.unlink(missing_ok=True)


@contextlib.contextmanager
def _namespace(name: str) -> Iterator[Path]:
    problems: list[OSError] = []

    def make() -> None:
        try:
            namespaces.create_and_enter(name)
        except OSError as error:
            problems.append(error)

    # The thread stays in the namespace, so it is one that ends.
    maker = threading.Thread(target=make)
    maker.start()
    maker.join()
    try:
        if problems:
            raise InstallError(f"no network namespace can be made: {problems[0]}; run this as root of the node")
        yield namespaces.path(name)
    finally:
        namespaces.remove(name)


@contextlib.contextmanager
def _image(engine: Engine, name: str) -> Iterator[str]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w"):
        pass
    engine.call("POST", f"/images/create?fromSrc=-&repo={name}&tag=1", buffer.getvalue())
    try:
        yield f"{name}:1"
    finally:
        engine.call("DELETE", f"/images/{name}:1?force=1")


@contextlib.contextmanager
def _container(engine: Engine, name: str, image: str, runtime: str) -> Iterator[str]:
    host = {
        "Runtime": runtime,
        "NetworkMode": "none",
        "Binds": [f"{path}:{path}:ro" for path in _SYSTEM if Path(path).is_dir()],
    }
    body = {"Image": image, "Cmd": [_SLEEP, "60"], "HostConfig": host}
    made = str(engine.call("POST", f"/containers/create?name={name}", body)["Id"])
    try:
        yield made
    finally:
        engine.call("DELETE", f"/containers/{made}?force=1&v=1")
