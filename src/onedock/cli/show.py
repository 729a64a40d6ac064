"""Tables, trees and lines for people. Pure: from the API's JSON to rich renderables."""

import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

Json = dict[str, Any]

_COLOURS = {"running": "green", "suspended": "yellow", "stopped": "default", "absent": "dim"}
_UNSHOWN = {"reconcile_id", "heal"}
"""Fields of log lines that tell people nothing."""
_LEVELS = {"info": "default", "warning": "yellow", "error": "red", "critical": "red"}
_VM_STATES = {
    0: "INIT", 1: "PENDING", 2: "HOLD", 3: "ACTIVE", 4: "STOPPED", 5: "SUSPENDED", 6: "DONE",
    8: "POWEROFF", 9: "UNDEPLOYED", 10: "CLONING", 11: "CLONING_FAILURE",
}  # fmt: skip


def ago(since: float, now: float) -> str:
    """A short age: 5s, 12m, 3h, 9d."""
    seconds = max(0, int(now - since))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def overview(vms: list[Json], health: Json, registry: Json, now: float) -> RenderableType:
    """The nodes, the registry, a table of VMs, and what needs attention."""
    nodes = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NODE", "HOST", "ENGINE", "AGENT", "LISTED", "HEALED"):
        nodes.add_column(column, no_wrap=True, overflow="ellipsis")
    for node in health["nodes"]:
        listed = f"{ago(node['listed_at'], now)} ago" if node["listed_at"] else "never"
        host = str(node["host_id"]) if node["host_id"] >= 0 else "-"
        engine = _side(node["engine"], node["engine_version"])
        healed = node_heals(node["heals"], now)
        nodes.add_row(node["name"], host, engine, _side(node["agent"], "up"), listed, healed)
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = {"VM": None, "NAME": 16, "NODE": 14, "STATE": 20, "ADDRESS": 18, "SINCE": None}
    for column, width in columns.items():
        table.add_column(column, max_width=width, overflow="ellipsis", no_wrap=True)
    for vm in sorted(vms, key=lambda vm: int(vm["vm"])):
        running = vm["running"] or {}
        since = ago(running["since"], now) if running else "-"
        address = vm["addresses"][0].split("/")[0] if vm["addresses"] else "-"
        table.add_row(str(vm["vm"]), vm["name"], vm["node"], _state(vm), address, since)
    resync = f"{ago(health['last_resync'], now)} ago" if health["last_resync"] else "never"
    drivers = ", ".join(f"{kind} {'up' if up else 'gone'}" for kind, up in health["drivers"].items())
    footer = f"{len(vms)} VMs, {health['due']} due, {health['undelivered']} answers to deliver"
    footer += f"; compared with OpenNebula {resync}; drivers: {drivers}"
    attention = _attention(vms, health, registry)
    store = Text.assemble("registry ", registry["address"], " ", _side({"ok": not registry["error"]}, "up"))
    below = [Text(), Text("needs attention:", style="bold"), *attention] if attention else []
    return Group(nodes, store, Text(), table if vms else Text("no VMs"), *below, Text(), Text(footer))


def _attention(vms: list[Json], health: Json, registry: Json) -> list[Text]:
    """What is not as it should be, one paragraph each: whole sentences fit into no column."""
    lines = [Text(text, style="red") for text in (health["journal_error"], health["resync_error"]) if text]
    if registry["error"]:
        lines.append(Text(f"registry: {registry['error']}", style="red"))
    for node in health["nodes"]:
        for condition in node["conditions"]:
            if not condition["ok"]:
                colour = "yellow" if condition["name"] == "LiveRestore" else "red"
                lines.append(Text(f"{node['name']}: {condition['message']}", style=colour))
        for pull in node["pulls"]:
            lines.append(Text(f"{node['name']}: pulling {pull['image']}: {progress(pull)}"))
    return lines + [Text(f"VM {vm['vm']} {vm['name']}: {_why(vm)}", style="yellow") for vm in vms if _why(vm)]


def progress(pull: Json) -> str:
    """How far a pull is."""
    if not pull["total"]:
        return "begins"
    mib = 1024 * 1024
    percent = pull["done"] * 100 // pull["total"]
    return f"{percent} % ({pull['done'] // mib} of {pull['total'] // mib} MB)"


def _side(side: Json, good: str) -> Text:
    return Text(good or "up", style="green") if side["ok"] else Text("down", style="red")


def _state(vm: Json) -> Text:
    power = str(vm["power"] or "-")
    if vm["busy"]:
        return Text(f"{power} ({vm['busy'].lower()})", style="yellow")
    return Text(power, style="red" if vm["error"] else _COLOURS.get(power, "default"))


def _why(vm: Json) -> str:
    """What happened to it that nobody asked for; empty when all is as it should be."""
    running = vm["running"] or {}
    return str(vm["error"] or ("" if running.get("ok") else running.get("message")) or "")


def condition_line(condition: Json, now: float) -> Text:
    """One condition: mark, name, reason, age, message."""
    mark = Text("✔ ", style="green") if condition["ok"] else Text("✘ ", style="yellow")
    age = ago(condition["since"], now)
    text = f"{condition['name']}: {condition['reason']} for {age}  {condition['message']}"
    return Text.assemble(mark, text)


def tree(vm: Json, now: float) -> RenderableType:
    """One VM: image, container, NICs, limits, conditions, open requests."""
    one_state = _VM_STATES.get(vm["one_state"][0], "?") if vm["one_state"] else "not asked yet"
    title = Text.assemble((f"VM {vm['vm']} ", "bold"), vm["name"], "  ", _state(vm), f"  on {vm['node'] or '-'}")
    root = Tree(title)
    root.add(f"OpenNebula says {one_state}; wanted since generation {vm['generation']}")
    spec, observed = vm["spec"], vm["observed"] or {}
    container, network = observed.get("container"), observed.get("network")
    looked = f"looked {ago(vm['observed_at'], now)} ago" if vm["observed_at"] else "not looked yet"
    root.add(_image(spec, container))
    root.add(_container(container, looked))
    if spec:
        root.add(_limits(spec["container"]))
        _nics(root, spec["network"]["nics"], network)
        for line in network["waiting"] if network else ():
            root.add(Text(f"⟳ {line}", style="yellow", overflow="fold"))
        if healed := vm_heals(vm["heals"], now):
            root.add(Text(healed, overflow="fold"))
        root.add(Text("disk 0 (root)  the container's own layer, kept while the VM exists", overflow="fold"))
    for condition in vm["conditions"]:
        root.add(condition_line(condition, now))
    for intent in vm["intents"]:
        waiting = ago(intent["received"], now)
        root.add(Text(f"⟳ {intent['action']} (request {intent['id']}) since {waiting}", style="yellow"))
    if vm["pull"]:
        root.add(Text(f"⟳ pulling the image: {progress(vm['pull'])}", style="yellow"))
    if vm["error"]:
        again = "" if vm["retry_in_s"] is None else f"; next in {vm['retry_in_s']:.0f}s"
        root.add(Text(f"last try failed: {vm['error']}{again}", style="red"))
    return root


def node_heals(heals: Json, now: float) -> str:
    """How many networks its agent put back since the agent's start, and when the last one."""
    return f"{heals['count']}, {ago(heals['latest']['time'], now)} ago" if heals["latest"] else str(heals["count"])


def vm_heals(heals: Json, now: float) -> str:
    """How often the network of a VM was put back, and the last time; empty: never."""
    latest = heals["latest"]
    if not latest:
        return ""
    times = "once" if heals["count"] == 1 else f"{heals['count']} times, last"
    text = f"network healed {times} {ago(latest['time'], now)} ago within {latest['seconds']:g} s"
    return f"{text} because of {latest['cause']}: {latest['what']}"


def _image(spec: Json | None, container: Json | None) -> Text:
    reference = spec["container"]["image"] if spec else container["image"] if container else "unknown"
    return Text(f"image  {reference}", overflow="fold")


def _container(container: Json | None, looked: str) -> Text:
    if container is None:
        return Text(f"container  none ({looked})", style="dim")
    text = f"container  {container['id'][:12]}  {container['phase']}"
    if container["phase"] == "running":
        text += f"  pid {container['pid']}  since {container['started_at'][:19]}Z"
    elif container["phase"] in {"exited", "dead"}:
        text += f"  exit code {container['exit_code']}  at {container['finished_at'][:19]}Z"
    style = "green" if container["phase"] == "running" else "yellow"
    return Text(f"{text}  ({looked})", style=style)


def _limits(container: Json) -> str:
    cores = container["cpu_quota_us"] / 100_000
    memory = container["memory_bytes"] // (1024 * 1024)
    return f"limits  {cores:g} cores, weight {container['cpu_shares']}, {memory} MB, {container['pids']} processes"


def _nics(root: Tree, wanted: list[Json], network: Json | None) -> None:
    seen = {nic["nic"]["index"]: nic for nic in network["nics"]} if network else {}
    for nic in wanted:
        have = seen.get(nic["index"])
        state = "unplugged" if have is None else "up" if have["up"] else "down"
        style = "green" if state == "up" else "yellow"
        addresses = ", ".join(nic["addresses"]) or "no address"
        text = f"{nic['name']}  {state}  {nic['mac']}  {addresses}  ↔ {nic['host_name']} on {nic['bridge']}"
        root.add(Text(text, style=style, overflow="fold"))


def log_line(line: Json) -> Text:
    """One line of the reconcile log: time, VM, sentence, facts."""
    when = datetime.datetime.fromtimestamp(line["time"], datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    facts = " ".join(f"{name}={value}" for name, value in line["fields"].items() if name not in _UNSHOWN)
    text = Text(f"{when}Z ", style="dim")
    text.append(f"VM {line['vm']} ", style="cyan")
    text.append(line["event"], style=_LEVELS.get(line["level"], "default"))
    text.append(f"  {facts}", style="dim")
    return text
