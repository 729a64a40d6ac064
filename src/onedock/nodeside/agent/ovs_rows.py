"""What Open vSwitch's database shows of bridges and ports, as values. Pure; column names of ovs-vswitchd.conf.db(5)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import VmId

KIND = "openvswitch"
"""Of the link that each of its bridges has in the kernel."""
MASTER = "ovs-system"
"""The link that is master of all its ports, whatever their bridge."""
OURS = "onedock=yes"
"""Mark in ``external_ids`` of bridges, and of the ports that all VMs share, that ONEDock has made."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Bridge": ("name", "ports", "external_ids"),
    "Port": ("_uuid", "name", "tag", "trunks", "cvlans", "vlan_mode", "other_config", "external_ids"),
    "Open_vSwitch": ("other_config",),
}
"""What is read of which table, in the order in which ``parse`` takes them."""

MONITORED = tuple(column for column in COLUMNS["Port"] if column != "_uuid")
"""Columns of the table ``Port`` that ``parse_changes`` takes."""
MAPS = frozenset({"external_ids", "other_config"})
"""Columns in which others may have values as well."""

Columns = Mapping[str, frozenset[str]]
"""A row: every column as a set, maps as ``key=value``."""


def vm_mark(vm: VmId) -> str:
    """Mark in ``external_ids`` of a VM's ports."""
    return f"onedock-vm={vm}"


@dataclass(frozen=True, slots=True)
class SwitchPort:
    """A port of a bridge."""

    name: str
    bridge: str
    columns: Columns = field(default_factory=dict)

    def has_mark(self, mark: str) -> bool:
        """Whether ``external_ids`` say so."""
        return mark in self.columns.get("external_ids", frozenset())


@dataclass(frozen=True, slots=True)
class OpenVswitch:
    """Everything that a plan has to know of it."""

    bridges: Mapping[str, bool] = field(default_factory=dict)
    """Names, and whether the bridge is ours."""
    ports: Mapping[str, SwitchPort] = field(default_factory=dict)
    """By name: no two bridges can have ports of one name."""
    vlan_limit: int = 1
    """How many tags are looked at; 0: as many as it can."""

    def ports_of(self, bridge: str) -> tuple[SwitchPort, ...]:
        """All ports of a bridge but its own."""
        return tuple(port for port in self.ports.values() if port.bridge == bridge and port.name != bridge)


def parse(text: str) -> OpenVswitch:
    """The answer to ``list`` of the tables in ``COLUMNS``, a line of JSON each. TransientError: it is none."""
    try:
        bridges, ports, (switch,) = (tuple(_rows(json.loads(line))) for line in text.splitlines())
        holders = {port: _one(row["name"]) for row in bridges for port in row["ports"]}
        names = {_one(row["_uuid"]): _one(row["name"]) for row in ports}
        limit = next((one for one in switch["other_config"] if one.startswith("vlan-limit=")), "vlan-limit=1")
        return OpenVswitch(
            bridges={_one(row["name"]): OURS in row["external_ids"] for row in bridges},
            ports={
                name: SwitchPort(name, holders[uuid], row)
                for row, (uuid, name) in zip(ports, names.items(), strict=True)
                if uuid in holders
            },
            vlan_limit=int(limit.partition("=")[2]),
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise TransientError(f"Open vSwitch's answer is not understood: {error}; is it older than 2.8?") from error


@dataclass(frozen=True, slots=True)
class PortChange:
    """A port's row as it is now."""

    name: str
    columns: Columns | None
    """None: the row is gone."""


def parse_changes(line: bytes) -> tuple[PortChange, ...]:
    """A line of ``ovsdb-client --format=json monitor`` of the table Port. TransientError: it is none."""
    try:
        rows = tuple(_rows(json.loads(line)))
        return tuple(_change(_one(row["action"]), row) for row in rows if row["action"] != {"old"})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TransientError(f"what ovsdb-client says is not understood: {error!r:.200}") from error


def _change(action: str, row: Columns) -> PortChange:
    if action not in {"initial", "insert", "new", "delete"}:
        raise ValueError(f"unknown action {action[:40]!r}")
    columns = None if action == "delete" else {name: row[name] for name in MONITORED}
    return PortChange(_one(row["name"]), columns)


def differing(want: Columns, have: Columns) -> Columns:
    """The columns that a row has to get to be as wanted."""

    def fits(name: str) -> bool:
        present = have.get(name, frozenset())
        return want[name] <= present if name in MAPS else want[name] == present

    return {name: values for name, values in want.items() if not fits(name)}


def _rows(table: Any) -> Iterator[dict[str, frozenset[str]]]:
    for row in table["data"]:
        yield {name: _as_set(value) for name, value in zip(table["headings"], row, strict=True)}


def _as_set(value: Any) -> frozenset[str]:
    """A column's value; the format is that of RFC 7047, 5.1."""
    match value:
        case ["set", list(members)]:
            return frozenset().union(*map(_as_set, members))
        case ["map", list(pairs)]:
            return frozenset(f"{key}={content}" for key, content in pairs)
        case ["uuid", str(uuid)]:
            return frozenset({uuid})
        case _:
            return frozenset({str(value)})


def _one(values: frozenset[str]) -> str:
    (value,) = values
    return value
