"""``onevnet``."""

from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import typer

from onedock.lab.one_cli import show
from onedock.lab.one_cli.client import call, document, number_of, reported, show_created, template_text
from onedock.lab.one_cli.show import Column

app = typer.Typer(help="Virtual networks.", no_args_is_help=True, add_completion=False)
_STATES = {"0": "init", "1": "rdy", "2": "lock", "3": "lock", "4": "done", "5": "err", "6": "upd_fail"}


def pool() -> ElementTree.Element:
    """All virtual networks."""
    return document("one.vnpool.info", -2, -1, -1)


@app.command()
@reported
def create(file: Annotated[Path, typer.Argument(help="Template of the network.")]) -> None:
    """Create a virtual network from a template file."""
    show_created(call("one.vn.allocate", template_text(file), -1))


@app.command()
@reported
def update(
    network: str,
    file: Annotated[Path, typer.Argument(help="Template of the network.")],
    append: Annotated[bool, typer.Option("--append", "-a", help="Keep what the file does not name.")] = False,
) -> None:
    """Change a virtual network; VMs that run follow where they can."""
    call("one.vn.update", number_of(network, "VNET", pool), template_text(file), int(append))


@app.command("list")
@reported
def list_all() -> None:
    """List the virtual networks."""
    columns = [Column("ID", right=True), Column("USER"), Column("NAME", shrinks=True), Column("BRIDGE")]
    columns += [Column("VN_MAD"), Column("STATE"), Column("LEASES", right=True)]
    rows = [
        [
            item.findtext("ID", ""),
            item.findtext("UNAME", ""),
            item.findtext("NAME", ""),
            item.findtext("BRIDGE", ""),
            item.findtext("VN_MAD", ""),
            _STATES.get(item.findtext("STATE", ""), "-"),
            item.findtext("USED_LEASES", ""),
        ]
        for item in pool()
    ]
    show.table(columns, rows)


@app.command("show")
@reported
def show_one(network: str) -> None:
    """Show one virtual network, given by id or name, with its leases."""
    item = document("one.vn.info", number_of(network, "VNET", pool), False)
    names = ("ID", "NAME", "VN_MAD", "BRIDGE", "PHYDEV", "VLAN_ID", "USED_LEASES")
    lines = [(name, item.findtext(name, "")) for name in names]
    for name in ("UPDATED", "OUTDATED", "UPDATING", "ERROR"):
        lines.append((f"{name} VMS", ",".join(vm.text or "" for vm in item.findall(f"{name}_VMS/ID"))))
    show.page(f"VIRTUAL NETWORK {item.findtext('ID')}", lines)
    show.attributes("VIRTUAL NETWORK TEMPLATE", item.find("TEMPLATE"))
    leases = [
        [lease.findtext("VM", ""), lease.findtext("MAC", ""), lease.findtext("IP", "-"), lease.findtext("IP6", "-")]
        for lease in item.iter("LEASE")
    ]
    if leases:
        print()
        show.table([Column("VM", right=True), Column("MAC"), Column("IP"), Column("IP6", shrinks=True)], leases)


@app.command()
@reported
def delete(network: str) -> None:
    """Delete a virtual network without leases."""
    call("one.vn.delete", number_of(network, "VNET", pool))
