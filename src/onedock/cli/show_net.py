"""The way of a VM's frames for people. Pure: from the API's JSON to rich renderables."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from onedock.cli.show import Json

_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000


def faults(answer: Json) -> list[Text]:
    """The first lines: what is broken, and what mends it; a line for each NIC."""
    broken = [
        Text.assemble(
            (f"VM {answer['vm']} {nic['nic']['name']}: ", "bold"),
            (nic["fault"]["reason"], "bold red"),
            f"; {nic['fault']['remedy']}",
        )
        for nic in answer["nics"]
        if nic["fault"]
    ]
    if broken:
        return broken
    good = "nothing is broken between its NICs and the wire" if answer["nics"] else "it has no NIC"
    return [Text.assemble((f"VM {answer['vm']}: ", "bold"), (good, "bold green"))]


def ways(answer: Json) -> RenderableType:
    """A tree: each NIC, and below it its hops from the inside out."""
    tree = Tree(Text.assemble((f"VM {answer['vm']} ", "bold"), answer["name"], f"  on {answer['node']}"))
    if not answer["namespace"]:
        tree.add(Text("no network namespace on the node", style="red"))
    for nic in answer["nics"]:
        branch = tree.add(_title(nic))
        for hop, text in _hops(nic, answer["resolver"]):
            place = branch.add(_marked(nic, hop, text))
            for rule in _rules(nic["rules"] or []) if hop == "security groups" else ():
                place.add(Text(rule))
    if answer["resolver"]:
        tree.add(_resolver(answer["resolver"]))
    return tree


def _resolver(said: Json) -> Text:
    search = f"; search {', '.join(said['search'])}" if said["search"] else ""
    text = f"  {', '.join(said['servers']) or 'no name server'}{search}"
    return Text.assemble(("resolv.conf", "bold"), text, (f"  ← {said['trouble']}" if said["trouble"] else "", "yellow"))


def _title(nic: Json) -> Text:
    network = f"network {nic['network']!r}" if nic["network"] else "network not known"
    driver = f" ({nic['driver']})" if nic["driver"] else ""
    return Text.assemble((nic["nic"]["name"], "bold"), f"  NIC {nic['nic']['index']}, {network}{driver}")


def _marked(nic: Json, hop: str, text: str) -> Text:
    """A hop, the broken one pointed at; what is beyond it is not judged."""
    if nic["fault"] and nic["fault"]["hop"] == hop:
        fault = nic["fault"]["reason"]
        return Text.assemble(("✘ ", "bold red"), (f"{hop}  {text}", "red"), (f"  ← {fault}", "bold red"))
    return Text.assemble(("✔ ", "green") if not nic["fault"] else ("· ", "dim"), (hop, "bold"), f"  {text}")


def _hops(nic: Json, resolver: Json | None) -> Iterator[tuple[str, str]]:
    wanted = nic["nic"]
    yield "container", f"{_link(nic['inside'], wanted['name'])}{_addresses(nic)}{_name_servers(nic, resolver)}"
    if nic["rules"] is not None:
        hits = _hits([one for one in nic["rules"] if one["packets"] and not one["words"]])
        yield "security groups", hits or ("nothing has come by yet" if nic["rules"] else "no rules are loaded")
    yield "host side", _link(nic["host"], wanted["host_name"])
    if nic["forged"] is not None:
        yield "spoofing filter", "dropped: " + (_hits([one for one in nic["forged"] if one["packets"]]) or "nothing")
    yield "bridge", _bridge(nic)
    if nic["uplink"] is not None or wanted["uplink"] is not None:
        yield "uplink", f"{_link(nic['uplink'], (wanted['uplink'] or {}).get('name', '?'))}, {nic['uplink_to']}"
    phydev = (wanted["uplink"] or wanted)["phydev"]
    if phydev:
        yield "physical device", _link(nic["device"], phydev)
    else:
        yield "physical device", "none, no uplink: node only"
    if nic["gateways"] or wanted["gateways"]:
        yield "gateway", _gateways(nic)
    elif nic["waiting"]:
        yield "gateway", nic["waiting"]


def _link(link: Json | None, name: str) -> str:
    if link is None:
        return f"{name} is missing"
    counters = link["counters"]
    state = "up" if link["up"] and link["carrier"] else "up, no carrier" if link["up"] else "down"
    parts = [f"{name} {state}", f"MTU {link['mtu']}"]
    for way in ("rx", "tx"):
        bad = [f"{counters[f'{way}_{kind}']} {kind}" for kind in ("dropped", "errors") if counters[f"{way}_{kind}"]]
        details = ", ".join([_bytes(counters[f"{way}_bytes"]), *bad])
        parts.append(f"{way} {counters[f'{way}_packets']} ({details})")
    queue = link["queue"]
    if queue and (queue["kind"] not in {"noqueue", "mq", "pfifo_fast", "fq_codel"} or queue["dropped"]):
        waiting = f", {_bytes(queue['backlog_bytes'])} wait" if queue["backlog_bytes"] else ""
        parts.append(f"queue {queue['kind']}: {queue['overlimits']} delayed, {queue['dropped']} dropped{waiting}")
    if not link["forwarding"]:
        parts.append("blocked by spanning tree")
    if link["lost_lately"]:
        parts.append(f"{link['lost_lately']} lost just now")
    return ", ".join(parts)


def _addresses(nic: Json) -> str:
    inside = nic["inside"]
    if inside is None:
        return ""
    leased = f", leased {nic['leased']}" if nic["leased"] else ""
    return f", {inside['mac']}, {', '.join(nic['addresses']) or 'no address'}{leased}"


def _name_servers(nic: Json, resolver: Json | None) -> str:
    """Of the NIC, each with whether the VM asks it."""
    asked = resolver["servers"] if resolver else nic["dns"]
    texts = [server if server in asked else f"{server} (not in force)" for server in nic["dns"]]
    return f", name servers {', '.join(texts)}" if texts else ""


def _bridge(nic: Json) -> str:
    vlans = f", VLANs of the port: {', '.join(nic['vlans'])}" if nic["vlans"] else ""
    if nic["bridge"] is None:
        return f"{nic['nic']['bridge']} is missing"
    state = "up" if nic["bridge"]["up"] else "down"
    ports = f"{nic['other_ports']} other port{'' if nic['other_ports'] == 1 else 's'}"
    return f"{nic['bridge']['name']} {state}, MTU {nic['bridge']['mtu']}, {ports}{vlans}"


def _gateways(nic: Json) -> str:
    known = {one["address"]: one for one in nic["neighbours"]}
    texts = []
    for gateway in dict.fromkeys([*nic["gateways"], *nic["nic"]["gateways"]]):
        neighbour = known.get(gateway)
        state = "not spoken to yet" if neighbour is None else f"{neighbour['state']} {neighbour['mac']}".strip()
        texts.append(f"{gateway} {state}")
    return ", ".join(texts)


def _rules(hits: list[Json]) -> Iterator[str]:
    """What the rules of groups let through, the busiest ones first; those that nothing has hit are only counted."""
    for name, some in groupby((one for one in hits if one["words"]), key=itemgetter("rule")):
        way, _, group = name.partition(".group-")
        rules = sorted(some, key=lambda one: -one["packets"])
        hit = [one for one in rules if one["packets"]]
        for one in hit:
            yield f"{way}, group {group}: {one['words']}  {one['packets']} ({_bytes(one['bytes'])})"
        if idle := len(rules) - len(hit):
            yield f"{way}, group {group}: {idle} rule{'' if idle == 1 else 's'} not hit yet"


def _hits(hits: list[Json]) -> str:
    return ", ".join(f"{one['rule']} {one['packets']} ({_bytes(one['bytes'])})" for one in hits)


def _bytes(number: int) -> str:
    value = float(number)
    for unit in _UNITS:
        if value < _THOUSAND or unit == _UNITS[-1]:
            break
        value /= _THOUSAND
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
