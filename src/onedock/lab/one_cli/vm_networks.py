"""``onevm nic-attach`` and the like: NICs, aliases and security groups of a VM."""

from pathlib import Path
from typing import Annotated

import typer

from onedock.lab.one_cli import networks, security_groups
from onedock.lab.one_cli.client import CommandError, call, number_of, reported, template_text
from onedock.lab.one_cli.vms import pool

app = typer.Typer()

File = Annotated[Path | None, typer.Option("--file", "-f", help="Template with one NIC or NIC_ALIAS.")]


def _vm(vm: str) -> int:
    return number_of(vm, "VM", pool)


@app.command("nic-attach")
@reported
def attach(
    vm: str,
    file: File = None,
    network: Annotated[str | None, typer.Option("--network", "-n", help="Network, id or name.")] = None,
    ip: Annotated[str | None, typer.Option("--ip", "-i", help="Address; default: a free one.")] = None,
    alias: Annotated[str | None, typer.Option("--alias", "-a", help="NIC that it is to be an alias of: NIC0.")] = None,
    nic_name: Annotated[str | None, typer.Option("--nic_name", help="Name of the NIC.")] = None,
) -> None:
    """Attach a NIC, or an alias of a NIC, to a VM that runs or is powered off."""
    if file is not None:
        template = template_text(file)
    elif network is not None:
        pairs = {"PARENT": alias, "NETWORK_ID": str(number_of(network, "VNET", networks.pool))}
        pairs |= {"IP": ip, "NAME": nic_name}
        given = ", ".join(f'{name}="{_quoted(value)}"' for name, value in pairs.items() if value is not None)
        template = f"{'NIC_ALIAS' if alias else 'NIC'}=[{given}]"
    else:
        raise CommandError("provide a network (--network) or a template (--file)")
    call("one.vm.attachnic", _vm(vm), template)


def _quoted(text: str) -> str:
    return text.replace('"', '\\"')


@app.command("nic-detach")
@reported
def detach(vm: str, nic: Annotated[int, typer.Argument(help="NIC_ID.")]) -> None:
    """Detach a NIC with its aliases, or an alias."""
    call("one.vm.detachnic", _vm(vm), nic)


@app.command("nic-update")
@reported
def update(
    vm: str,
    nic: Annotated[int, typer.Argument(help="NIC_ID.")],
    file: Annotated[Path, typer.Argument(help="Template with a NIC.")],
    append: Annotated[bool, typer.Option("--append", "-a", help="Keep what the file does not name.")] = False,
) -> None:
    """Change the limits of a NIC's bandwidth."""
    call("one.vm.updatenic", _vm(vm), nic, template_text(file), int(append))


@app.command("sg-attach")
@reported
def attach_group(vm: str, nic: Annotated[int, typer.Argument(help="NIC_ID.")], group: str) -> None:
    """Put a NIC into a security group."""
    call("one.vm.attachsg", _vm(vm), nic, number_of(group, "SECURITY_GROUP", security_groups.pool))


@app.command("sg-detach")
@reported
def detach_group(vm: str, nic: Annotated[int, typer.Argument(help="NIC_ID.")], group: str) -> None:
    """Take a NIC out of a security group."""
    call("one.vm.detachsg", _vm(vm), nic, number_of(group, "SECURITY_GROUP", security_groups.pool))
