"""``onesecgroup``."""

from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import typer

from onedock.lab.one_cli import show
from onedock.lab.one_cli.client import call, document, number_of, reported, show_created, template_text
from onedock.lab.one_cli.show import Column

app = typer.Typer(help="Security groups.", no_args_is_help=True, add_completion=False)
_LISTS = ("UPDATED", "OUTDATED", "UPDATING", "ERROR")


def pool() -> ElementTree.Element:
    """All security groups."""
    return document("one.secgrouppool.info", -2, -1, -1)


def _group(group: str) -> int:
    return number_of(group, "SECURITY_GROUP", pool)


@app.command()
@reported
def create(file: Annotated[Path, typer.Argument(help="Template of the group.")]) -> None:
    """Create a security group from a template file."""
    show_created(call("one.secgroup.allocate", template_text(file)))


@app.command()
@reported
def clone(group: str, name: str) -> None:
    """Create a security group with the rules of another."""
    show_created(call("one.secgroup.clone", _group(group), name))


@app.command("list")
@reported
def list_all() -> None:
    """List the security groups, and how many VMs have their rules."""
    columns = [Column("ID", right=True), Column("USER"), Column("NAME", shrinks=True)]
    columns += [Column(name, right=True) for name in _LISTS]
    rows = [
        [item.findtext("ID", ""), item.findtext("UNAME", ""), item.findtext("NAME", "")]
        + [str(len(item.findall(f"{name}_VMS/ID"))) for name in _LISTS]
        for item in pool()
    ]
    show.table(columns, rows)


@app.command("show")
@reported
def show_one(group: str) -> None:
    """Show one security group, given by id or name: its rules, and the VMs by how far they are."""
    item = document("one.secgroup.info", _group(group), False)
    lines = [("ID", item.findtext("ID", "")), ("NAME", item.findtext("NAME", "")), ("USER", item.findtext("UNAME", ""))]
    lines += [(f"{name} VMS", ",".join(vm.text or "" for vm in item.findall(f"{name}_VMS/ID"))) for name in _LISTS]
    show.page(f"SECURITY GROUP {item.findtext('ID')}", lines)
    rules = [
        [
            rule.findtext("RULE_TYPE", ""),
            rule.findtext("PROTOCOL", ""),
            rule.findtext("ICMP_TYPE") or rule.findtext("ICMPV6_TYPE") or "",
            _network(rule),
            rule.findtext("RANGE", ""),
        ]
        for rule in item.findall("TEMPLATE/RULE")
    ]
    if rules:
        print()
        titles = [Column("TYPE"), Column("PROTOCOL"), Column("ICMP"), Column("NETWORK", shrinks=True), Column("RANGE")]
        show.table(titles, rules)


def _network(rule: ElementTree.Element) -> str:
    parts = []
    if number := rule.findtext("NETWORK_ID"):
        parts.append(f"VNet {number}")
    if first := rule.findtext("IP"):
        parts.append(f"Start: {first}, Size: {rule.findtext('SIZE', '')}")
    return ": ".join(parts) or "Any"


@app.command()
@reported
def update(
    group: str,
    file: Annotated[Path, typer.Argument(help="Template of the group.")],
    append: Annotated[bool, typer.Option("--append", "-a", help="Keep what the file does not name.")] = False,
) -> None:
    """Change the rules, also of VMs that run."""
    call("one.secgroup.update", _group(group), template_text(file), int(append))


@app.command()
@reported
def commit(
    group: str, recover: Annotated[bool, typer.Option("--recover", "-r", help="Only VMs that failed.")] = False
) -> None:
    """Bring the rules to all VMs once more."""
    call("one.secgroup.commit", _group(group), recover)


@app.command()
@reported
def delete(group: str) -> None:
    """Delete a security group that no VM uses."""
    call("one.secgroup.delete", _group(group))
