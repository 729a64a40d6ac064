"""``onedatastore``."""

from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import typer

from onedock.lab.one_cli import show
from onedock.lab.one_cli.client import call, document, number_of, reported, show_created, template_text
from onedock.lab.one_cli.show import Column

app = typer.Typer(help="Datastores.", no_args_is_help=True, add_completion=False)
_TYPES = {"0": "img", "1": "sys", "2": "fil"}


def pool() -> ElementTree.Element:
    """All datastores."""
    return document("one.datastorepool.info")


@app.command()
@reported
def create(file: Annotated[Path, typer.Argument(help="Template of the datastore.")]) -> None:
    """Create a datastore from a template file."""
    show_created(call("one.datastore.allocate", template_text(file), -1))


@app.command("list")
@reported
def list_all() -> None:
    """List the datastores."""
    columns = [Column("ID", right=True), Column("NAME", shrinks=True), Column("SIZE", right=True)]
    columns += [Column("AVA", right=True), Column("IMAGES", right=True), Column("TYPE"), Column("DS"), Column("TM")]
    columns.append(Column("STAT"))
    rows = []
    for item in pool():
        total, free = float(item.findtext("TOTAL_MB", "0")), float(item.findtext("FREE_MB", "0"))
        rows.append(
            [
                item.findtext("ID", ""),
                item.findtext("NAME", ""),
                show.size(item.findtext("TOTAL_MB")) if total else "-",
                f"{100 * free / total:.0f}%" if total else "-",
                str(len(item.findall("IMAGES/ID"))),
                _TYPES.get(item.findtext("TYPE", ""), "-"),
                item.findtext("DS_MAD", ""),
                item.findtext("TM_MAD", ""),
                "on" if item.findtext("STATE") == "0" else "off",
            ]
        )
    show.table(columns, rows)


@app.command("show")
@reported
def show_one(datastore: str) -> None:
    """Show one datastore, given by id or name."""
    item = document("one.datastore.info", number_of(datastore, "DATASTORE", pool), False)
    names = ("ID", "NAME", "DS_MAD", "TM_MAD", "BASE_PATH", "TOTAL_MB", "FREE_MB", "USED_MB")
    show.page(f"DATASTORE {item.findtext('ID')}", [(name, item.findtext(name, "")) for name in names])
    show.attributes("DATASTORE TEMPLATE", item.find("TEMPLATE"))


@app.command()
@reported
def delete(datastore: str) -> None:
    """Delete an empty datastore."""
    call("one.datastore.delete", number_of(datastore, "DATASTORE", pool))
