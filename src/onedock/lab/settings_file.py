"""What the lab writes for ONEDock and for the user's shell."""

import json
import shlex
import socket
import sys
from pathlib import Path

from onedock.controller.driver.layout import lay_out
from onedock.lab import engine
from onedock.lab.layout import Choices, Layout
from onedock.lab.one_cli import link_commands

PROGRAMS = ("onedock", "onedock-vmm", "onedock-im")
NEVER_S = 1e9


def host_name() -> str:
    """The name under which this machine becomes a host of OpenNebula."""
    return socket.gethostname()


def write(layout: Layout, choices: Choices) -> None:
    """Settings, scripts for OpenNebula, commands for the user, and a file to be sourced."""
    layout.configuration.write_text(_toml(_settings(layout, choices)))
    lay_out(layout.state / "remotes")
    link_commands(layout.bin)
    for name in PROGRAMS:
        link = layout.bin / name
        link.unlink(missing_ok=True)
        link.symlink_to(Path(sys.executable).with_name(name))
    exports = [f"export {name}={shlex.quote(value)}" for name, value in layout.environment(choices).items()]
    exports.append(f'export PATH={shlex.quote(str(layout.bin))}:"$PATH"')
    (layout.state / "env").write_text("\n".join(exports) + "\n")


def _settings(layout: Layout, choices: Choices) -> dict[str, dict[str, object]]:
    return {
        "controller": {
            "driver_socket": str(layout.run / "driver.sock"),
            "api_socket": str(layout.run / "api.sock"),
            "state_dir": str(layout.state / "controller"),
            "resync_s": 15.0,
            # In an engine that was there before, another installation's containers look like left-overs of VMs.
            "orphan_grace_s": NEVER_S,
        },
        "opennebula": {
            "endpoint": layout.environment(choices)["ONE_XMLRPC"],
            "auth_file": str(layout.one_auth),
            "remotes_dir": str(layout.state / "remotes"),
        },
        "registry": {
            "address": f"127.0.0.1:{choices.registry_port}",
            "tls": False,
            "insecure_sources": [f"127.0.0.1:{choices.registry_port}"],
            "data_dir": str(layout.state / "registry"),
        },
        "agent": {
            "socket": str(layout.run / "agent.sock"),
            "state_dir": str(layout.agent_state),
            "runtime_dir": str(layout.runtime_dir),
            "engine_root": str(engine.data_root(layout, choices)),
        },
        "monitor": {"host_s": 10.0, "vm_s": 5.0, "system_s": 60.0, "beacon_s": 10.0},
        f"nodes.{json.dumps(host_name())}": {
            "engine": f"unix://{layout.engine_socket(choices)}",
            "agent": str(layout.run / "agent.sock"),
        },
    }


def _toml(sections: dict[str, dict[str, object]]) -> str:
    """Strings, numbers, booleans and lists of strings are the same in TOML as in JSON."""
    lines = []
    for section, values in sections.items():
        lines += ["", f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines).lstrip() + "\n"
