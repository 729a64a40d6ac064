"""``onedock net``."""

import json
import time
from typing import Annotated

import typer

from onedock.cli.client import get_json
from onedock.cli.common import AsJson, OneVm, api_socket, console, explained
from onedock.cli.show import vm_heals
from onedock.cli.show_net import faults, ways

Probe = Annotated[
    bool, typer.Option("--probe", help="Let the VM look for its gateways (ARP, neighbour discovery); takes seconds.")
]


def net(vm: OneVm, probe: Probe = False, as_json: AsJson = False) -> None:
    """Draw the way from a VM's NICs to the wire, the first broken hop on top."""
    with explained():
        answer = get_json(api_socket(), f"/vms/{vm}/path{'?probe' if probe else ''}")
        if as_json:
            print(json.dumps(answer))
            return
        for line in faults(answer):
            console.print(line, soft_wrap=True)
        console.print(ways(answer))
        if healed := vm_heals(answer["heals"], time.time()):
            console.print(healed, soft_wrap=True)
