"""``onedock``: what an admin sees of ONEDock and does with it. Each command is in a file named after its subject."""

import json
import sys
from typing import Annotated

import typer

from onedock.cli import config, explain, install, intents, log, net, status
from onedock.cli.client import get_json, get_text
from onedock.cli.common import AsJson, api_socket, explained

app = typer.Typer(no_args_is_help=True, add_completion=False, help="What ONEDock does with the VMs of OpenNebula.")
install.register(app)
app.add_typer(config.app, name="config")
app.command()(status.status)
app.command()(explain.explain)
app.command()(explain.plan)
app.command()(net.net)
app.command()(log.log)
app.command()(intents.intents)
app.command()(intents.retry)
app.command()(intents.drop)


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without any risk.")] = False,
    as_json: AsJson = False,
) -> None:
    """Examine engines, agents, registry, OpenNebula and this machine. Status 0: fine, 1: warnings, 2: errors."""
    from onedock.cli.doctor import examine  # the clients of all these take as long to import as the other commands

    examine(fix=fix, as_json=as_json)


@app.command()
def metrics() -> None:
    """Print the controller's metrics in Prometheus' format."""
    with explained():
        sys.stdout.write(get_text(api_socket(), "/metrics"))


@app.command()
def health(as_json: AsJson = False) -> None:
    """Say whether the controller serves and reaches its nodes; status 1 when something is wrong."""
    with explained():
        answer = get_json(api_socket(), "/health")
        problems = [
            f"node {node['name']}: {side}: {node[side]['error']}"
            for node in answer["nodes"]
            for side in ("engine", "agent")
            if not node[side]["ok"]
        ]
        problems += [text for text in (answer["journal_error"], answer["resync_error"]) if text]
        if not answer["last_resync"]:
            problems.append("not compared with OpenNebula yet: is oned reachable?")
        print(json.dumps(answer) if as_json else "\n".join(problems) or "ok")
        if problems:
            raise typer.Exit(1)
