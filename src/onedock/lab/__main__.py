"""``python -m onedock.lab``: a cloud of one node on this machine, with an OpenNebula of its own."""

import argparse
import sys
import time
from pathlib import Path

from onedock.lab import cloud
from onedock.lab.errors import LabError
from onedock.lab.layout import Layout
from onedock.lab.walkthrough import Walkthrough, farewell


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="onedock.lab", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".lab"), help="its directory (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("up", "start every part"), ("demo", "start every part, then walk through")):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--engine",
            default="",
            metavar="unix:///PATH",
            help="use this running engine; default: one of its own",
        )
    commands.add_parser("walkthrough", help="datastore, image, network, host, VM, a death and a resume")
    commands.add_parser("status", help="which parts run")
    commands.add_parser("down", help="end every part and remove everything")
    return parser.parse_args()


def _progress() -> "cloud.Say":
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)

    return say


def _plain(text: str) -> None:
    print(text, flush=True)


def _walk(layout: Layout) -> None:
    choices = layout.read_choices()
    if choices is None:
        raise LabError(f"there is no lab in {layout.state}; make one first: make demo, or python -m onedock.lab up")
    vm = Walkthrough(layout, choices, _plain).run()
    print(farewell(layout, vm))


def run(options: argparse.Namespace) -> int:
    """Do one command; returns the exit code. Raises LabError."""
    cloud.need_root()
    layout = Layout(options.state.resolve())
    if options.command == "status":
        return 0 if cloud.status(layout, _plain) else 1
    with cloud.alone(layout):
        match options.command:
            case "up":
                cloud.up(layout, options.engine, _progress())
            case "demo":
                cloud.up(layout, options.engine, _progress())
                _walk(layout)
            case "walkthrough":
                _walk(layout)
            case "down":
                cloud.down(layout, _progress())
    return 0


def main() -> None:
    """Entry point. Exit code 1: it failed, and standard error says why and what to do."""
    try:
        sys.exit(run(_arguments()))
    except LabError as error:
        sys.exit(f"onedock.lab: {error}")
    except KeyboardInterrupt:
        sys.exit("onedock.lab: interrupted; what was started stays: make demo goes on, make demo-stop removes it")


if __name__ == "__main__":
    main()
