"""``oneimage``."""

from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import typer

from onedock.lab.one_cli import datastores, show
from onedock.lab.one_cli.client import call, document, number_of, reported, show_created, template_text
from onedock.lab.one_cli.show import Column

app = typer.Typer(help="Images.", no_args_is_help=True, add_completion=False)
_TYPES = {"0": "OS", "1": "CD", "2": "DB", "3": "KL", "4": "RD", "5": "CX"}
_STATES = {
    "0": "init",
    "1": "rdy",
    "2": "used",
    "3": "disa",
    "4": "lock",
    "5": "err",
    "6": "clon",
    "7": "dele",
    "8": "used",
}


def pool() -> ElementTree.Element:
    """All images."""
    return document("one.imagepool.info", -2, -1, -1)


@app.command()
@reported
def create(
    file: Annotated[Path, typer.Argument(help="Template of the image.")],
    datastore: Annotated[str, typer.Option("-d", "--datastore", help="Image datastore, id or name.")],
) -> None:
    """Create an image from a template file."""
    number = number_of(datastore, "DATASTORE", datastores.pool)
    show_created(call("one.image.allocate", template_text(file), number, False))


@app.command("list")
@reported
def list_all() -> None:
    """List the images."""
    columns = [Column("ID", right=True), Column("USER"), Column("NAME", shrinks=True), Column("DATASTORE")]
    columns += [Column("SIZE", right=True), Column("TYPE"), Column("PER"), Column("STAT"), Column("RVMS", right=True)]
    rows = [
        [
            item.findtext("ID", ""),
            item.findtext("UNAME", ""),
            item.findtext("NAME", ""),
            item.findtext("DATASTORE", ""),
            show.size(item.findtext("SIZE")),
            _TYPES.get(item.findtext("TYPE", ""), "-"),
            "Yes" if item.findtext("PERSISTENT") == "1" else "No",
            _STATES.get(item.findtext("STATE", ""), "-"),
            item.findtext("RUNNING_VMS", ""),
        ]
        for item in pool()
    ]
    show.table(columns, rows)


@app.command("show")
@reported
def show_one(image: str) -> None:
    """Show one image, given by id or name."""
    item = document("one.image.info", number_of(image, "IMAGE", pool), False)
    names = ("ID", "NAME", "DATASTORE", "SOURCE", "PATH", "FORMAT", "SIZE")
    lines = [(name, item.findtext(name, "")) for name in names]
    lines.append(("STATE", _STATES.get(item.findtext("STATE", ""), "-")))
    lines.append(("RUNNING_VMS", item.findtext("RUNNING_VMS", "")))
    show.page(f"IMAGE {item.findtext('ID')}", lines)
    show.attributes("IMAGE TEMPLATE", item.find("TEMPLATE"))


@app.command()
@reported
def delete(image: str) -> None:
    """Delete an image that no VM uses."""
    call("one.image.delete", number_of(image, "IMAGE", pool), False)
