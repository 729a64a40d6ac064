"""How a VM routes by source, as ``ip`` shows it in the VM."""

from tests.support.agent import PrivateAgent

from onedock.reconcilers.model import VmId


def rules(agent: PrivateAgent, vm: VmId) -> list[tuple[str, str]]:
    """(source, table) of everything but what each namespace is born with."""
    shown = [*agent.ip("rule", netns=f"one-{vm}"), *agent.ip("-6", "rule", netns=f"one-{vm}")]
    return sorted((one["src"], one["table"]) for one in shown if one["table"] not in {"local", "main", "default"})


def tables(agent: PrivateAgent, vm: VmId) -> list[str]:
    """Routes of all NICs' own tables."""
    shown = [*agent.ip("route", "show", "table", "all", netns=f"one-{vm}")]
    shown += agent.ip("-6", "route", "show", "table", "all", netns=f"one-{vm}")
    found = (one for one in shown if str(one.get("table", "main")).isdecimal())
    return sorted(f"{one['table']} {one['dst']} {one.get('gateway', '')} {one['dev']}" for one in found)


def sent(agent: PrivateAgent, vm: VmId, link: str) -> int:
    """Packets that left by a NIC so far."""
    shown = agent.ip("-s", "link", "show", "dev", link, netns=f"one-{vm}")
    return int(shown[0]["stats64"]["tx"]["packets"])
