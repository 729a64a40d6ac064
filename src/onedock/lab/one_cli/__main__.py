"""``python -m onedock.lab.one_cli onevm list``: one of the commands by its name."""

import sys

from onedock.lab.one_cli import COMMANDS, datastores, hosts, images, networks, security_groups, vm_networks, vms

_APPS = {
    "onedatastore": datastores.app,
    "oneimage": images.app,
    "onevnet": networks.app,
    "onesecgroup": security_groups.app,
    "onehost": hosts.app,
    "onevm": vms.app,
}
vms.app.add_typer(vm_networks.app)


def main(arguments: list[str]) -> int:
    """Runs the command that the first argument names; returns its exit code."""
    if not arguments or arguments[0] not in _APPS:
        print(f"usage: {' | '.join(COMMANDS)}", file=sys.stderr)
        return 2
    name, *rest = arguments
    try:
        _APPS[name](rest, prog_name=name)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
