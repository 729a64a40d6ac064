"""``onevm``."""

from typing import Annotated
from xml.etree import ElementTree

import typer

from onedock.lab.one_cli import show
from onedock.lab.one_cli.client import CommandError, call, document, number_of, reported, show_created
from onedock.lab.one_cli.show import Column

app = typer.Typer(help="Virtual machines.", no_args_is_help=True, add_completion=False)
_STATES = {"0": "init", "1": "pend", "2": "hold", "4": "stop", "5": "susp", "6": "done", "8": "poff", "9": "unde"}
_LCM_STATES = {
    "1": "prol",
    "2": "boot",
    "3": "runn",
    "4": "migr",
    "5": "save",
    "6": "save",
    "7": "save",
    "8": "migr",
    "9": "prol",
    "10": "epil",
    "11": "epil",
    "12": "shut",
    "15": "clea",
    "16": "unkn",
    "17": "hotp",
    "18": "shut",
    "19": "boot",
    "20": "boot",
    "21": "boot",
    "22": "boot",
    "23": "clea",
    "24": "snap",
    "25": "hotp",
    "29": "shut",
    "30": "epil",
    "31": "prol",
    "32": "boot",
    "35": "boot",
    "43": "migr",
    "45": "migr",
    "57": "snap",
    "60": "migr",
    "62": "drsz",
    "66": "resz",
}
_FAILED = range(36, 51)


def pool() -> ElementTree.Element:
    """All VMs that are not DONE."""
    return document("one.vmpool.info", -2, -1, -1, -1, "")


def state_of(item: ElementTree.Element) -> str:
    """The four letters of OpenNebula's own list."""
    state, lcm = item.findtext("STATE", ""), item.findtext("LCM_STATE", "")
    if state != "3":
        return _STATES.get(state, "-")
    return _LCM_STATES.get(lcm, "fail" if int(lcm or 0) in _FAILED else "acti")


def _vector(name: str, key: str, value: str) -> str:
    escaped = value.replace('"', '\\"')
    return f'{name}=[\n  {key}="{escaped}"\n]\n'


def _reference(kind: str, value: str) -> tuple[str, str]:
    return (f"{kind}_ID", value) if value.isdigit() else (kind, value)


@app.command()
@reported
def create(
    memory: Annotated[int, typer.Option("--memory", help="Memory in MB.", min=1)],
    cpu: Annotated[float, typer.Option("--cpu", help="CPU share: 1 is a whole core.", min=0.01)],
    vcpu: Annotated[int | None, typer.Option("--vcpu", help="Number of virtual CPUs.", min=1)] = None,
    disk: Annotated[list[str] | None, typer.Option("--disk", help="Image, id or name; may be repeated.")] = None,
    nic: Annotated[list[str] | None, typer.Option("--nic", help="Network, id or name; may be repeated.")] = None,
    net_context: Annotated[bool, typer.Option("--net_context", help="Addresses in the context.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="Name of the VM.")] = None,
) -> None:
    """Create a VM."""
    text = ""
    if name:
        escaped = name.replace('"', '\\"')
        text += f'NAME="{escaped}"\n'
    text += f"CPU={cpu}\n"
    if vcpu:
        text += f"VCPU={vcpu}\n"
    text += f"MEMORY={memory}\n"
    text += "".join(_vector("DISK", *_reference("IMAGE", image)) for image in disk or [])
    text += "".join(_vector("NIC", *_reference("NETWORK", network)) for network in nic or [])
    if net_context:
        text += _vector("CONTEXT", "NETWORK", "YES")
    show_created(call("one.vm.allocate", text, False))


@app.command("list")
@reported
def list_all() -> None:
    """List the VMs that are not done."""
    # asked as OpenNebula's own command asks, which shows names of clusters on request
    document("one.clusterpool.info")
    columns = [Column("ID", right=True), Column("USER"), Column("NAME", shrinks=True), Column("STAT")]
    columns += [Column("CPU", right=True), Column("MEM", right=True), Column("HOST"), Column("TIME", right=True)]
    rows = [
        [
            item.findtext("ID", ""),
            item.findtext("UNAME", ""),
            item.findtext("NAME", ""),
            state_of(item),
            item.findtext("TEMPLATE/CPU", ""),
            show.size(item.findtext("TEMPLATE/MEMORY")),
            item.findtext("HISTORY_RECORDS/HISTORY/HOSTNAME", "-"),
            show.duration(item.findtext("STIME"), item.findtext("ETIME")),
        ]
        for item in pool()
    ]
    show.table(columns, rows)


@app.command("show")
@reported
def show_one(vm: str) -> None:
    """Show one VM, given by id or name."""
    item = document("one.vm.info", number_of(vm, "VM", pool), False)
    host = [record.findtext("HOSTNAME", "") for record in item.iter("HISTORY")][-1:] or ["-"]
    addresses = [nic.findtext("IP") or nic.findtext("IP6") or "-" for nic in item.findall("TEMPLATE/NIC")]
    lines = [
        ("ID", item.findtext("ID", "")),
        ("NAME", item.findtext("NAME", "")),
        ("USER", item.findtext("UNAME", "")),
        ("STATE", f"{state_of(item)} (STATE {item.findtext('STATE')}, LCM_STATE {item.findtext('LCM_STATE')})"),
        ("HOST", host[0]),
        ("DEPLOY ID", item.findtext("DEPLOY_ID") or "-"),
        ("ADDRESSES", ", ".join(addresses) or "-"),
        ("START TIME", show.date(item.findtext("STIME"))),
        ("END TIME", show.date(item.findtext("ETIME"))),
    ]
    if error := item.findtext("USER_TEMPLATE/ERROR"):
        lines.append(("ERROR", error))
    show.page(f"VIRTUAL MACHINE {item.findtext('ID')}", lines)
    show.attributes("VIRTUAL MACHINE MONITORING", item.find("MONITORING"))
    show.attributes("USER TEMPLATE", item.find("USER_TEMPLATE"))
    show.attributes("VIRTUAL MACHINE TEMPLATE", item.find("TEMPLATE"))


Hard = Annotated[bool, typer.Option("--hard", help="Do not wait for the guest.")]


def _act(action: str, vm: str, *, hard: bool = False) -> None:
    call("one.vm.action", f"{action}-hard" if hard else action, number_of(vm, "VM", pool))


def _register_with_hard(action: str, text: str) -> None:
    @app.command(action, help=text)
    @reported
    def command(vm: str, hard: Hard = False) -> None:
        _act(action, vm, hard=hard)


def _register(action: str, text: str) -> None:
    @app.command(action, help=text)
    @reported
    def command(vm: str) -> None:
        _act(action, vm)


_register_with_hard("poweroff", "Power a VM off; its disks stay.")
_register_with_hard("reboot", "Reboot a VM.")
_register_with_hard("terminate", "End a VM and remove its disks.")
_register_with_hard("undeploy", "Power a VM off and free its host.")
_register("resume", "Start a VM again.")
_register("suspend", "Suspend a VM.")
_register("stop", "Save a VM and free its host.")
_register("hold", "Keep a pending VM from being placed.")
_register("release", "Let a held VM be placed.")


@app.command()
@reported
def recover(
    vm: str,
    retry: Annotated[bool, typer.Option("--retry", help="Send the failed request again.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Clean up; the VM is done.")] = False,
    recreate: Annotated[bool, typer.Option("--recreate", help="Clean up and place it anew.")] = False,
    success: Annotated[bool, typer.Option("--success", help="Go on as if the request had worked.")] = False,
    failure: Annotated[bool, typer.Option("--failure", help="Go on as if the request had failed.")] = False,
    delete_db: Annotated[bool, typer.Option("--delete-db", help="Forget it without cleaning up.")] = False,
) -> None:
    """Help a VM that waits for an operator."""
    chosen = [code for code, given in enumerate((failure, success, retry, delete, recreate, delete_db)) if given]
    if len(chosen) != 1:
        raise CommandError("choose one of --retry, --delete, --recreate, --success, --failure, --delete-db")
    call("one.vm.recover", number_of(vm, "VM", pool), chosen[0])
