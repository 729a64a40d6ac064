"""``onedock intents``, ``retry`` and ``drop``: oned's requests, and what an admin may do to them."""

import json
import time
from typing import Annotated, Any

import typer

from onedock.cli.client import get_json, post
from onedock.cli.common import AsJson, api_socket, console, explained
from onedock.cli.show_intents import intent_table

Number = Annotated[int, typer.Argument(help="Number of the request, as `onedock intents` shows it.", min=1)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_FAILED_START = (
    "OpenNebula shows the VM as failed. Of a new VM everything is removed from its node; "
    "`onevm recover --retry` asks again"
)
_STAYS = "OpenNebula takes the VM as still running"
_CONSEQUENCES = {
    "DEPLOY": _FAILED_START,
    "RESTORE": _FAILED_START,
    "SHUTDOWN": _STAYS,
    "CANCEL": _STAYS,
    "CLEANUP": "what is left of the VM on its node stays until it is found there as a left-over",
    "REBOOT": "the VM is not restarted, and OpenNebula is not told: it expects no answer",
    "RESET": "the VM is not restarted, and OpenNebula is not told: it expects no answer",
    "clone": "the VM fails in PROLOG; `onevm recover --retry` asks again",
    "ln": "the VM fails in PROLOG; `onevm recover --retry` asks again",
    "delete": "the VM fails in EPILOG, what is left of it on its node stays",
}


def intents(
    vm: Annotated[int | None, typer.Option(help="Only those of this VM.", min=0)] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Only those not concluded or not delivered.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what OpenNebula asked for and what became of it, oldest first."""
    with explained():
        chosen = [f"vm={vm}"] * (vm is not None) + ["pending"] * pending
        rows = get_json(api_socket(), f"/intents?{'&'.join(chosen)}")
        print(json.dumps(rows)) if as_json else console.print(intent_table(rows, time.time()))


def retry(intent: Number, yes: Yes = False) -> None:
    """Try an open request now instead of after its delay. It keeps its deadline."""
    _act("retry", intent, yes, "It is tried now; its deadline stays, counted from when OpenNebula asked.")


def drop(intent: Number, yes: Yes = False) -> None:
    """Let an open request fail: what is being done for it stops, and OpenNebula is told that it failed."""
    _act("drop", intent, yes, "")


def _act(verb: str, intent: int, yes: bool, consequence: str) -> None:
    with explained():
        socket = api_socket()
        row = get_json(socket, f"/intents/{intent}")
        typer.echo(f"request {intent}: {row['action']} of VM {row['vm']}")
        typer.echo(consequence or drop_consequence(row))
        if not yes and not typer.confirm(f"{verb} it?"):
            raise typer.Exit(1)
        post(socket, f"/intents/{intent}/{verb}")
        typer.echo(f"done; follow it with: onedock log --follow {row['vm']}")


def drop_consequence(row: dict[str, Any]) -> str:
    """What follows when this request is dropped."""
    known = _CONSEQUENCES.get(row["action"], "OpenNebula shows the request as failed")
    return f"If it is dropped: {known}."
