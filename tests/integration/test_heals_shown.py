"""What an agent put back is seen by people: in the VM's log, its state, its way to the wire, and at the node."""

import asyncio
import json
import subprocess
from typing import Any

import pytest
from tests.support import engine as engines
from tests.support import registry as registries
from tests.support.cloud import GATEWAY, Cloud
from tests.support.engine import PrivateEngine
from tests.support.registry import PrivateRegistry
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(engines.why_not()), reason=str(engines.why_not())),
    pytest.mark.skipif(bool(registries.why_not()), reason=str(registries.why_not())),
]


async def healed(cloud: Cloud, vm: int) -> list[dict[str, Any]]:
    """The lines of the VM's log that tell of it."""
    lines = [json.loads(line) for line in (await cloud.onedock("log", str(vm), "--json")).splitlines()]
    return [line for line in lines if line["event"] == "network healed"]


async def test_heals_are_told_wherever_people_look(engine: PrivateEngine, registry: PrivateRegistry) -> None:
    async with Cloud(engine, registry) as cloud:
        vm = await cloud.running_vm(await cloud.image("healed"), name="web")
        assert "healed" not in await cloud.onedock("status", str(vm))
        assert "healed" not in await cloud.onedock("net", str(vm))

        subprocess.run(["ip", "-n", f"one-{vm}", "route", "del", "default"], check=True)  # noqa: ASYNC221
        [line] = await eventually(lambda: healed(cloud, vm), within=20)
        assert (line["fields"]["node"], line["fields"]["cause"]) == ("node1", "route")
        assert GATEWAY in line["fields"]["what"]
        assert line["fields"]["seconds"] > 0
        told = f"within {line['fields']['seconds']:g} s because of route: {line['fields']['what']}"
        for view in ("status", "net"):
            assert f"network healed once 0s ago {told}" in _unaged(await cloud.onedock(view, str(vm)))
        text = await cloud.onedock("log", str(vm))
        assert "network healed  node=node1 cause=route what=" in text
        assert "heal=" not in text
        assert "1, 0s ago" in _unaged(await cloud.onedock("status"))
        assert 'onedock_heals_total{cause="route",node="node1"} 1.0' in await cloud.onedock("metrics")

        # What happened while nobody listened is told by the next controller, and nothing twice.
        await asyncio.to_thread(cloud.controller.stop)
        cloud.engine.run_in_netns(["ip", "link", "set", f"one-{vm}-0", "nomaster"])
        await asyncio.to_thread(cloud.controller.start)
        assert len(await eventually(lambda: _several(cloud, vm), within=20)) == 2
        state = json.loads(await cloud.onedock("status", str(vm), "--json"))
        assert (state["heals"]["count"], state["heals"]["latest"]["what"]) == (2, f"plug in one-{vm}-0 odtbr0")
        assert "network healed 2 times, last" in await cloud.onedock("net", str(vm))


async def _several(cloud: Cloud, vm: int) -> list[dict[str, Any]] | None:
    lines = await healed(cloud, vm)
    return lines if len(lines) > 1 else None


def _unaged(text: str) -> str:
    """On a busy machine, some seconds pass until a heal is looked at."""
    words = text.split()
    return " ".join("0s" if word[:-1].isdecimal() and word.endswith("s") else word for word in words)
