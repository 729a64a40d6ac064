"""The composition root: builds every object of the controller, starts its tasks, stops them in order."""

import asyncio
import random
import time
from contextlib import AsyncExitStack
from functools import partial

import structlog

from onedock.config.logging import configure_logging
from onedock.config.settings import Settings
from onedock.controller.api import Api
from onedock.controller.delivery import Delivery
from onedock.controller.hints import listen
from onedock.controller.images.datastore import Datastore
from onedock.controller.intake import Intake, Links
from onedock.controller.journal import Journal
from onedock.controller.metrics import Metrics
from onedock.controller.monitoring import Monitoring
from onedock.controller.nodes import Nodes
from onedock.controller.oned import Oned
from onedock.controller.queue import KeyedQueue
from onedock.controller.registry import Registry
from onedock.controller.reporter import Reporter
from onedock.controller.requests import Requests
from onedock.controller.resync import REFRESHES_PER_S, Resync
from onedock.controller.story import Story
from onedock.controller.tasks import keep_running
from onedock.controller.transfers import Transfers
from onedock.controller.worker import Worker
from onedock.nodeside.events import EngineEvent
from onedock.reconcilers.actions import Action
from onedock.reconcilers.model import NodeName, VmId

log = structlog.get_logger(__name__)

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 30.0


def backoff(failures: int) -> float:
    """Seconds before the next try: doubling with full jitter, so that VMs of one failed node do not come in step."""
    ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures, 20))
    return BACKOFF_FIRST_S + random.uniform(0, ceiling)  # noqa: S311 - jitter, not a secret


async def run(settings: Settings) -> None:
    """Serve until cancelled."""
    story = Story()
    configure_logging(settings.log, extra=(story.processor,))
    metrics, links = Metrics(), Links()
    async with AsyncExitStack() as stack:
        journal = await Journal.open(settings.controller.state_dir / "journal.sqlite")
        stack.push_async_callback(journal.close)
        contents = await journal.load()
        registry = Registry(journal)
        registry.restore(contents)
        queue: KeyedQueue[VmId] = KeyedQueue(backoff)

        def on_event(node: NodeName, event: EngineEvent) -> None:
            metrics.events.labels(node).inc()
            metrics.event_lag.labels(node).observe(max(0.0, time.time() - event.time_ns / 1e9))
            if registry.find(event.vm) is not None:
                queue.add(event.vm)

        def on_gap(node: NodeName) -> None:
            metrics.gaps.labels(node).inc()
            resync.request()

        def on_action(vm: VmId, action: Action, seconds: float) -> None:
            name = type(action).__name__
            metrics.acted(name, seconds)
            log.info("action done", step=name, seconds=round(seconds, 4))

        oned = await stack.enter_async_context(Oned(settings.opennebula, on_call=metrics.called_oned))
        nodes = await stack.enter_async_context(
            Nodes(
                settings,
                on_event=on_event,
                on_gap=on_gap,
                on_action=on_action,
                on_call=metrics.called_engine,
            )
        )
        delivery = Delivery(journal=journal, oned=oned, links=links)
        delivery.restore(contents.outcomes)
        reporter = Reporter(
            settings=settings.opennebula,
            registry=registry,
            links=links,
            oned=oned,
            metrics=metrics,
            node_of=nodes.find,
        )
        resync = Resync(
            settings=settings,
            registry=registry,
            journal=journal,
            nodes=nodes,
            oned=oned,
            reporter=reporter,
            delivery=delivery,
            due=queue.add,
        )
        monitoring = Monitoring(
            settings=settings.monitor,
            nodes=nodes,
            registry=registry,
            links=links,
            metrics=metrics,
            resync=resync.request,
        )
        datastore = Datastore(settings)
        worker = Worker(
            settings=settings,
            queue=queue,
            registry=registry,
            journal=journal,
            nodes=nodes,
            oned=oned,
            delivery=delivery,
            reporter=reporter,
            transfers=Transfers(nodes=nodes, registry=registry, remotes=settings.opennebula.remotes_dir),
            metrics=metrics,
        )
        worker.restore(contents)
        requests = Requests(
            journal=journal,
            registry=registry,
            delivery=delivery,
            links=links,
            due=queue.add,
            cancel=worker.cancel,
            datastore=datastore.run,
            im_line=monitoring.im_line,
            resync=resync.request,
        )
        worker.on_script_done(requests.script_done)
        api = Api(
            registry=registry,
            nodes=nodes,
            journal=journal,
            story=story,
            queue=queue,
            delivery=delivery,
            resync=resync,
            metrics=metrics,
        )
        stack.push_async_callback((await api.serve(settings.controller.api_socket)).cleanup)
        for record in registry:
            spread = 0.0 if record.intents else random.uniform(0, len(registry) / REFRESHES_PER_S)  # noqa: S311
            queue.add(record.vm, after=spread)
        log.info(
            "controller started",
            vms=len(registry),
            intents=len(contents.intents),
            outcomes=len(contents.outcomes),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(story.run(journal), name="story")
            tasks.create_task(keep_running(delivery.run), name="delivery")
            tasks.create_task(keep_running(reporter.run), name="reporter")
            tasks.create_task(keep_running(resync.run), name="resync")
            tasks.create_task(keep_running(resync.run_hints), name="hinted")
            if settings.opennebula.events:
                hints = partial(listen, settings.opennebula.events, resync.hint)
                tasks.create_task(keep_running(hints), name="hints")
            tasks.create_task(keep_running(monitoring.run), name="monitoring")
            tasks.create_task(Intake(settings.controller.driver_socket, requests, links).serve(), name="intake")
            for n in range(settings.controller.workers):
                tasks.create_task(worker.run(), name=f"worker-{n}")
