"""The lab's registry: a ``docker-registry`` process on the loopback address, from which images may be deleted."""

import http.client
import json
import shutil

from onedock.lab.layout import Choices, Layout
from onedock.lab.processes import Part


def part(layout: Layout, choices: Choices) -> Part:
    """The daemon."""
    address = f"127.0.0.1:{choices.registry_port}"
    configuration = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(layout.state / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
    file = layout.state / "registry.yml"
    file.write_text(json.dumps(configuration) + "\n")
    program = shutil.which("docker-registry") or "docker-registry"
    return Part("registry", [program, "serve", str(file)], lambda: _answers(choices.registry_port))


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
