"""JSON of the API: from the controller's values to dictionaries. Pure."""

import json
from dataclasses import asdict
from typing import Any

from onedock.controller.images.source import stored_reference
from onedock.controller.images.transfer import Clone, parse_transfer
from onedock.controller.intents import Channel, Intent
from onedock.controller.journal_rows import VmHeals
from onedock.controller.nodes import Health, Node
from onedock.controller.registry import VmRecord
from onedock.reconcilers.errors import OnedockError
from onedock.reconcilers.model import Condition, NodeName

Json = dict[str, Any]


def node_conditions(node: Node) -> tuple[Condition, ...]:
    """What is true or not about a node."""
    return (
        _health("Engine", node.name, node.engine_health),
        _health("Agent", node.name, node.agent_health),
        Condition(
            "LiveRestore",
            ok=not node.warning,
            reason="Off" if node.warning else "On",
            message=node.warning,
            since=node.engine_health.since,
        ),
    )


def _health(name: str, node: NodeName, health: Health) -> Condition:
    reason = "Answers" if health.ok else "NotUsable"
    message = "" if health.ok else f"{name.lower()} of node {node}: {health.error}"
    return Condition(name, ok=health.ok, reason=reason, message=message, since=health.since)


def node_view(node: Node) -> Json:
    """A node in ``/health``."""
    sides = {"engine": node.engine_health, "agent": node.agent_health}
    return {
        "name": node.name,
        "host_id": node.host_id,
        **{side: {"ok": health.ok, "since": health.since, "error": health.error} for side, health in sides.items()},
        "engine_version": node.engine_version,
        "warning": node.warning,
        "listed_at": node.listed_at,
        "conditions": [asdict(condition) for condition in node_conditions(node)],
        "heals": {
            "count": sum(node.heals.values()),
            "causes": dict(node.heals),
            "latest": asdict(node.last_heal) if node.last_heal else None,
        },
        "pulls": [{"image": image, "done": done, "total": total} for image, (done, total) in node.pulls.items()],
    }


def pull_target(intent: Intent) -> tuple[NodeName, str] | None:
    """Node and image of a transfer that pulls; None for every other request."""
    if intent.channel is not Channel.TM:
        return None
    try:
        transfer = parse_transfer(intent.action, json.loads(intent.payload)["argv"])
        if isinstance(transfer, Clone):
            return transfer.target.host, stored_reference(transfer.source).pullable
    except (OnedockError, ValueError, LookupError):
        return None  # its pass will say what is wrong with it
    return None


def summary(record: VmRecord) -> Json:
    """A VM in the list."""
    desired = record.desired
    running = record.conditions.get("Running")
    addresses = [a for nic in desired.spec.network.nics for a in nic.addresses] if desired and desired.spec else []
    return {
        "vm": record.vm,
        "name": record.name,
        "node": desired.node if desired else "",
        "power": desired.power if desired else None,
        "generation": desired.generation if desired else 0,
        "phase": record.phase,
        "one_state": record.one_state,
        "addresses": addresses,
        "busy": record.intents[0].action if record.intents else "",
        "error": record.error,
        "running": asdict(running) if running else None,
    }


def heals_view(heals: VmHeals) -> Json:
    """How often the network of a VM was put back, and the last time."""
    latest = heals.latest
    return {"count": heals.count, "latest": latest and {"time": latest.time, **latest.fields}}


def detail(record: VmRecord, *, heals: VmHeals, pull: tuple[int, int] | None, retry_in_s: float | None) -> Json:
    """A VM alone. ``pull``: bytes so far and in all, if its image is being pulled."""
    desired = record.desired
    return summary(record) | {
        "spec": asdict(desired.spec) if desired and desired.spec else None,
        "observed": asdict(record.observed) if record.observed else None,
        "observed_at": record.observed_at,
        "conditions": [asdict(condition) for condition in record.conditions.values()],
        "intents": [
            {"id": intent.id, "action": intent.action, "channel": intent.channel, "received": intent.received}
            for intent in record.intents
        ],
        "pull": {"done": pull[0], "total": pull[1]} if pull else None,
        "heals": heals_view(heals),
        "retry_in_s": retry_in_s,
        "guard_until": record.guard_until,
    }
