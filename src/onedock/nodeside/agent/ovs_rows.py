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
