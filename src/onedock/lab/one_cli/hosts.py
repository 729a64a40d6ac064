"""``onehost``."""

from typing import Annotated
from xml.etree import ElementTree

import typer

from onedock.lab.one_cli import show
from onedock.lab.one_cli.client import call, document, number_of, reported, show_created
from onedock.lab.one_cli.show import Column

app = typer.Typer(help="Hosts.", no_args_is_help=True, add_completion=False)
_STATES = {"0": "init", "2": "on", "3": "err", "4": "dsbl", "8": "off"}


def pool() -> ElementTree.Element:
    """All hosts."""
    return document("one.hostpool.info")


@app.command()
@reported
def create(
    name: Annotated[str, typer.Argument(help="Name of the host: the node's name or address.")],
    im: Annotated[str, typer.Option("-i", "--im", help="Monitoring driver.")],
    vm: Annotated[str, typer.Option("-v", "--vm", help="Virtualisation driver.")],
) -> None:
    """Add a host."""
    show_created(call("one.host.allocate", name, im, vm, -1))


def _share(used: str, total: str, *, unit: str) -> str:
    if total in ("", "0"):
        return "-"
    percent = f"({100 * float(used) / float(total):.0f}%)"
    if unit == "KB":
        used, total = (show.size(str(float(amount) / 1024)) for amount in (used, total))
    return f"{used} / {total} {percent}"


@app.command("list")
@reported
def list_all() -> None:
    """List the hosts."""
    columns = [Column("ID", right=True), Column("NAME", shrinks=True), Column("CLUSTER"), Column("TVM", right=True)]
    columns += [Column("ALLOCATED_CPU", right=True), Column("ALLOCATED_MEM", right=True), Column("STAT")]
    rows = []
    for item in pool():
        share = {
            name: item.findtext(f"HOST_SHARE/{name}", "0") for name in ("CPU_USAGE", "MAX_CPU", "MEM_USAGE", "MAX_MEM")
        }
        rows.append(
            [
                item.findtext("ID", ""),
                item.findtext("NAME", ""),
                item.findtext("CLUSTER", ""),
                item.findtext("HOST_SHARE/RUNNING_VMS", ""),
                _share(share["CPU_USAGE"], share["MAX_CPU"], unit="%"),
                _share(share["MEM_USAGE"], share["MAX_MEM"], unit="KB"),
                _STATES.get(item.findtext("STATE", ""), "-"),
            ]
        )
    show.table(columns, rows)


@app.command("show")
@reported
def show_one(host: str) -> None:
    """Show one host, given by id or name."""
    item = document("one.host.info", number_of(host, "HOST", pool), False)
    lines = [(name, item.findtext(name, "")) for name in ("ID", "NAME", "CLUSTER", "IM_MAD", "VM_MAD")]
    lines.append(("STATE", _STATES.get(item.findtext("STATE", ""), "-")))
    lines.append(("VMS", ", ".join(number.text or "" for number in item.findall("VMS/ID")) or "-"))
    show.page(f"HOST {item.findtext('ID')}", lines)
    show.attributes("MONITORING", item.find("MONITORING/CAPACITY"))
    show.attributes("HOST TEMPLATE", item.find("TEMPLATE"))


@app.command()
@reported
def delete(host: str) -> None:
    """Delete a host without VMs."""
    call("one.host.delete", number_of(host, "HOST", pool))
