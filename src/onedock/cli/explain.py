"""``onedock explain`` and ``onedock plan``."""

import json
import time

from onedock.cli.client import get_json
from onedock.cli.common import AsJson, OneVm, Vm, api_socket, console, explained
from onedock.cli.show_explain import cause_line, explanation, plans


def explain(vm: OneVm, as_json: AsJson = False) -> None:
    """Tell why a VM is as it is: the cause first, then wanted and found, the last request, and what comes next."""
    with explained():
        answer = get_json(api_socket(), f"/vms/{vm}/explain")
        if as_json:
            print(json.dumps(answer))
            return
        console.print(cause_line(answer), soft_wrap=True)
        console.print(explanation(answer, time.time()))


def plan(vm: Vm = None, as_json: AsJson = False) -> None:
    """Show what the next pass over a VM would do, or over all of them; nothing is done."""
    with explained():
        answer = get_json(api_socket(), "/plan" if vm is None else f"/vms/{vm}/plan")
        print(json.dumps(answer)) if as_json else console.print(plans(answer))
