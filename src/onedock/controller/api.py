"""The HTTP API on a unix socket: status, log, metrics, health. Views only: parse, look, shape; no decisions."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import generate_latest

from onedock import __version__
from onedock.controller.delivery import Delivery
from onedock.controller.documents import parse_id
from onedock.controller.journal import Journal
from onedock.controller.journal_rows import LogLine
from onedock.controller.metrics import Metrics
from onedock.controller.nodes import Node, Nodes
from onedock.controller.queue import KeyedQueue
from onedock.controller.registry import Registry, VmRecord
from onedock.controller.resync import Resync
from onedock.controller.story import Story
from onedock.reconcilers.model import Power, VmId


class Api:
    """The application and its views."""

    def __init__(
        self,
        *,
        registry: Registry,
        nodes: Nodes,
        journal: Journal,
        story: Story,
        queue: KeyedQueue[VmId],
        delivery: Delivery,
        resync: Resync,
        metrics: Metrics,
    ) -> None:
        self._registry = registry
        self._nodes = nodes
        self._journal = journal
        self._story = story
        self._queue = queue
        self._delivery = delivery
        self._resync = resync
        self._metrics = metrics
        self._started = time.time()

    async def serve(self, path: Path) -> web.AppRunner:
        """Listen on a unix socket; the caller cleans the runner up."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/vms", self._vms)
        app.router.add_get("/vms/{vm:[0-9]{1,9}}", self._vm)
        app.router.add_get("/log", self._log)
        app.router.add_get("/metrics", self._metrics_view)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at start
        mask = os.umask(0o117)
        try:
            await web.UnixSite(runner, str(path)).start()
        finally:
            os.umask(mask)
        return runner

    async def _health(self, request: web.Request) -> web.Response:
        nodes = [_node_view(node) for node in self._nodes]
        return web.json_response(
            {
                "version": __version__,
                "pid": os.getpid(),
                "started": self._started,
                "last_resync": self._resync.last_success,
                "undelivered": len(self._delivery),
                "due": len(self._queue),
                "nodes": nodes,
            }
        )

    async def _vms(self, request: web.Request) -> web.Response:
        return web.json_response([_summary(record) for record in self._registry if record.desired is not None])

    async def _vm(self, request: web.Request) -> web.Response:
        record = self._registry.find(VmId(int(request.match_info["vm"])))
        if record is None or (record.desired is None and not record.intents):
            return web.json_response({"error": "ONEDock knows no such VM"}, status=404)
        return web.json_response(_detail(record))

    async def _log(self, request: web.Request) -> web.StreamResponse:
        """Lines as JSON, one per line; with ``follow`` it never ends."""
        number, limit = parse_id(request.query.get("vm", "0")), parse_id(request.query.get("limit", "1000"))
        if number is None or limit is None:
            return web.json_response({"error": "vm and limit must be numbers"}, status=400)
        vm, limit = (VmId(number) if "vm" in request.query else None), min(limit, 100_000)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        follower = self._story.follow() if "follow" in request.query else None
        await response.prepare(request)
        last = 0
        for line in await self._journal.read_log(vm, limit=limit):
            last = line.id
            await response.write(_line(line))
        if follower is None:
            return response
        # Lines written while the first part was read are in the journal, not in the follower's future.
        for line in await self._journal.read_log(vm, after=last):
            await response.write(_line(line))
        async for line in follower:
            if vm is None or line.vm == vm:
                await response.write(_line(line))
        return response

    async def _metrics_view(self, request: web.Request) -> web.Response:
        for power in Power:
            count = sum(1 for record in self._registry if record.desired is not None and record.desired.power is power)
            self._metrics.vms.labels(power.value).set(count)
        self._metrics.queue_depth.set(len(self._queue))
        self._metrics.undelivered.set(len(self._delivery))
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _line(line: LogLine) -> bytes:
    return json.dumps(asdict(line), default=str).encode() + b"\n"


def _node_view(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "host_id": node.host_id,
        "engine": {
            "ok": node.engine_health.ok,
            "since": node.engine_health.since,
            "error": node.engine_health.error,
        },
        "agent": {
            "ok": node.agent_health.ok,
            "since": node.agent_health.since,
            "error": node.agent_health.error,
        },
        "engine_version": node.engine_version,
        "warning": node.warning,
        "listed_at": node.listed_at,
    }


def _summary(record: VmRecord) -> dict[str, Any]:
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


def _detail(record: VmRecord) -> dict[str, Any]:
    desired = record.desired
    return _summary(record) | {
        "spec": asdict(desired.spec) if desired and desired.spec else None,
        "observed": asdict(record.observed) if record.observed else None,
        "observed_at": record.observed_at,
        "conditions": [asdict(condition) for condition in record.conditions.values()],
        "intents": [
            {"id": intent.id, "action": intent.action, "channel": intent.channel, "received": intent.received}
            for intent in record.intents
        ],
        "retry_in_s": record.retry_in_s,
        "guard_until": record.guard_until,
    }
