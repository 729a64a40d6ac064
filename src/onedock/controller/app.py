"""The composition root: builds every object of the controller, starts its tasks, stops them in order."""

import asyncio
import fcntl
import random
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path

import structlog

from onedock.config import sd_notify
from onedock.config.logging import configure_logging
from onedock.config.settings import Settings
from onedock.controller.admin import Admin
from onedock.controller.api.parts import Parts
from onedock.controller.api.server import serve
from onedock.controller.api.web import serve_page
from onedock.controller.delivery import Delivery
from onedock.controller.heals import follow_heals
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
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import NodeName, VmId

log = structlog.get_logger(__name__)

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 30.0


def backoff(failures: int) -> float:
    """Seconds before the next try: doubling with full jitter, so that VMs of one failed node do not come in step."""
    ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures, 20))
    return BACKOFF_FIRST_S + random.uniform(0, ceiling)  # noqa: S311 - jitter, not a secret


@contextmanager
def only_controller(state_dir: Path) -> Iterator[None]:
    """Hold the lock of the state directory: two controllers would answer oned twice.

    Raises:
        TransientError: another one holds it, or the directory cannot be written.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with (state_dir / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise TransientError(f"another controller works with {state_dir}: stop it first") from None
    except OSError as error:
        raise TransientError(f"{state_dir} cannot be used: {error}; check its owner and rights") from error


async def run(settings: Settings) -> None:
    """Serve until cancelled."""
    story = Story()
    configure_logging(settings.log, extra=(story.processor,))
    metrics, links = Metrics(), Links()
    async with AsyncExitStack() as stack:
        stack.enter_context(only_controller(settings.controller.state_dir))
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
            if (gapped := nodes.find(node)) is not None:
                gapped.listed_at = 0.0
            resync.request()

        def on_return() -> None:
            resync.request()  # requests that waited for the agent go on at once

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
                follow=partial(follow_heals, journal=journal, metrics=metrics, returned=on_return),
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
            answering=delivery.waiting,
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
            resync=resync.request,
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
        parts = Parts(
            settings=settings,
            registry=registry,
            nodes=nodes,
            journal=journal,
            story=story,
            queue=queue,
            delivery=delivery,
            resync=resync,
            metrics=metrics,
            oned=oned,
            links=links,
            admin=Admin(journal=journal, registry=registry, queue=queue, worker=worker),
        )
        stack.push_async_callback((await serve(parts, settings.controller.api_socket)).cleanup)
        if settings.controller.web_port:
            stack.push_async_callback((await serve_page(parts, settings.controller.web_port)).cleanup)
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
            tasks.create_task(sd_notify.keep_alive(), name="watchdog")
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
