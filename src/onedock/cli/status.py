"""``onedock status``."""

import json
import time
from typing import Annotated

import typer
from rich.console import RenderableType

from onedock.cli.client import get_json
from onedock.cli.common import AsJson, Vm, api_socket, console, explained, show_again
from onedock.cli.show import overview, tree

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show it anew every second until interrupted.")]
INTERVAL_S = 1.0


def status(vm: Vm = None, watch: Watch = False, as_json: AsJson = False) -> None:
    """Show nodes, registry and VMs at a glance, or one VM as a tree: state, since when, and why."""
    with explained():
        socket = api_socket()

        def look() -> object:
            if vm is not None:
                return get_json(socket, f"/vms/{vm}")
            return {view: get_json(socket, f"/{view}") for view in ("vms", "health", "registry")}

        def render() -> RenderableType:
            answer = look()
            assert isinstance(answer, dict)
            now = time.time()
            if vm is not None:
                return tree(answer, now)
            return overview(answer["vms"], answer["health"], answer["registry"], now)

        if as_json:
            print(json.dumps(look()))
        elif watch:
            show_again(render, every_s=INTERVAL_S)
        else:
            console.print(render())
