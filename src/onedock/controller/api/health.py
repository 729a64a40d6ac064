"""Health, readiness and metrics of the controller."""

import os
import time

from aiohttp import web
from prometheus_client import generate_latest

from onedock import __version__
from onedock.controller.api.parts import Parts
from onedock.controller.api.shapes import Json, node_view
from onedock.reconcilers.model import Power


class HealthViews:
    """``/health``, ``/ready`` and ``/metrics``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._started = time.time()

    def routes(self) -> list[web.RouteDef]:
        """What is served here."""
        return [
            web.get("/health", self.health),
            web.get("/ready", self.ready),
            web.get("/metrics", self.metrics),
        ]

    async def health(self, request: web.Request) -> web.Response:
        """What the controller knows of itself, of oned and of its nodes."""
        return web.json_response(self._health())

    async def ready(self, request: web.Request) -> web.Response:
        """200 when requests of oned can be taken and worked on, else 503; the reasons are in the body."""
        health = self._health()
        problems = [f"driver {kind} is not connected" for kind, up in health["drivers"].items() if not up]
        problems += [text for text in (health["journal_error"], health["resync_error"]) if text]
        return web.json_response({"problems": problems}, status=503 if problems else 200)

    def _health(self) -> Json:
        parts = self._parts
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started,
            "time": time.time(),
            "last_resync": parts.resync.last_success,
            "resync_error": parts.resync.error,
            "journal_error": parts.journal.error,
            "drivers": parts.links_up(),
            "undelivered": len(parts.delivery),
            "due": len(parts.queue),
            "nodes": [node_view(node) for node in parts.nodes],
        }

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus' text format; what is only known by looking is looked at now."""
        self._look()
        body = generate_latest(self._parts.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _look(self) -> None:
        parts, metrics, now = self._parts, self._parts.metrics, time.time()
        records = tuple(parts.registry)
        for power in Power:
            count = sum(1 for record in records if record.desired is not None and record.desired.power is power)
            metrics.vms.labels(power.value).set(count)
        received = [intent.received for record in records for intent in record.intents]
        metrics.failing.set(sum(1 for record in records if record.error))
        metrics.intents_open.set(len(received))
        metrics.intent_age.set(max(0.0, now - min(received)) if received else 0.0)
        metrics.queue_depth.set(len(parts.queue))
        metrics.queue_age.set(parts.queue.oldest_s())
        metrics.undelivered.set(len(parts.delivery))
        metrics.journal_up.set(not parts.journal.error)
        metrics.last_resync.set(parts.resync.last_success)
        for kind, up in parts.links_up().items():
            metrics.driver_up.labels(kind).set(up)
        for node in parts.nodes:
            metrics.side_up.labels(node.name, "engine").set(node.engine_health.ok)
            metrics.side_up.labels(node.name, "agent").set(node.agent_health.ok)
        metrics.usage.keep(record.vm for record in records)
