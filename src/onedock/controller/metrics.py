"""Prometheus names, all in one place. ``docs/monitoring.md`` explains them; a test keeps the two together."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from onedock import __version__
from onedock.reconcilers.measures import VmUsage
from onedock.reconcilers.model import VmId

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)

PHASES = {
    "PullImage": "pull",
    "EnsureNetwork": "network",
    "CreateContainer": "create",
    "BindNamespace": "bind",
    "StartContainer": "start",
}
"""The actions that a deploy consists of, and what they are called in ``onedock_deploy_seconds``."""


class Metrics:
    """The controller's metrics. One instance, one registry: tests run several controllers in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.usage = VmCounters()
        self.registry.register(self.usage)
        self.build = self._gauge("onedock_build_info", "1, with the version of the controller", "version")
        self.build.labels(__version__).set(1)
        self._define_work()
        self._define_sides()

    def _define_work(self) -> None:
        self.requests = self._counter("onedock_requests", "Requests of oned, by action and result", "action", "result")
        self.request_seconds = self._histogram(
            "onedock_request_seconds", "From the arrival of a request to its outcome", "action"
        )
        self.deploy_seconds = self._histogram(
            "onedock_deploy_seconds", "Parts of starting a VM: wait, transfer, pull, network, create, bind, start",
            "phase",
        )  # fmt: skip
        for phase in ("wait", "transfer", *PHASES.values()):
            self.deploy_seconds.labels(phase)
        self.passes = self._counter("onedock_passes", "Reconcile passes, by result", "result")
        for result in ("done", "retried", "crashed"):
            self.passes.labels(result)
        self.actions = self._counter("onedock_actions", "Actions done on nodes", "action")
        self.drifts = self._counter("onedock_drifts", "Changes of VMs from outside", "reason")
        self.heals = self._counter("onedock_heals", "Networks that agents put back", "node", "cause")
        self.pushes = self._counter("onedock_pushes", "States pushed to OpenNebula", "way")
        self.vms = self._gauge("onedock_vms", "VMs by desired power", "power")
        self.failing = self._gauge("onedock_vms_failing", "VMs whose last pass failed and will be tried again")
        self.queue_depth = self._gauge("onedock_queue_depth", "VMs that are due, now or later")
        self.queue_age = self._gauge("onedock_queue_oldest_seconds", "How long the VM that is due longest has waited")
        self.intents_open = self._gauge("onedock_intents_open", "Requests of oned that are not concluded")
        self.intent_age = self._gauge("onedock_intent_oldest_seconds", "Age of the oldest open request")
        self.undelivered = self._gauge("onedock_outcomes_undelivered", "Outcomes on their way to oned")
        self.journal_up = self._gauge("onedock_journal_up", "Whether the journal can be written")

    def _define_sides(self) -> None:
        self.events = self._counter("onedock_engine_events", "Events of engines", "node")
        self.gaps = self._counter("onedock_engine_event_gaps", "Times that events may have been missed", "node")
        self.event_lag = self._histogram(
            "onedock_engine_event_lag_seconds", "From an event, by the engine's clock, to its arrival", "node"
        )
        self.engine_calls = self._counter("onedock_engine_calls", "Calls to engines, by result", "node", "result")
        self.engine_seconds = self._histogram("onedock_engine_call_seconds", "Duration of calls to engines", "node")
        self.oned_calls = self._counter("onedock_oned_calls", "Calls to oned, by method and result", "method", "result")
        self.oned_seconds = self._histogram("onedock_oned_call_seconds", "Duration of calls to oned", "method")
        self.last_resync = self._gauge(
            "onedock_last_resync_timestamp_seconds", "Unix time of the last complete comparison with oned"
        )
        self.driver_up = self._gauge("onedock_driver_up", "Whether a driver of oned is connected", "driver")
        self.node_up = self._gauge("onedock_node_up", "Whether engine and agent of a node answer", "node")
        self.side_up = self._gauge(
            "onedock_node_side_up", "Whether engine or agent of a node can be used", "node", "side"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=_SECONDS, registry=self.registry)

    def acted(self, action: str, seconds: float) -> None:
        """An action was done on a node; ``action`` is the name of its class."""
        self.actions.labels(action).inc()
        if action in PHASES:
            self.deploy_seconds.labels(PHASES[action]).observe(seconds)

    def called_engine(self, node: str, result: str, seconds: float) -> None:
        """An engine was called."""
        self.engine_calls.labels(node, result).inc()
        self.engine_seconds.labels(node).observe(seconds)

    def called_oned(self, method: str, result: str, seconds: float) -> None:
        """Oned was called."""
        self.oned_calls.labels(method, result).inc()
        self.oned_seconds.labels(method).observe(seconds)


class VmCounters(Collector):
    """Counters of the VMs as the agents last measured them; gone with the VM."""

    def __init__(self) -> None:
        self._last: dict[VmId, VmUsage] = {}

    def note(self, usages: Iterable[VmUsage]) -> None:
        """Take over what was measured."""
        self._last.update((usage.vm, usage) for usage in usages)

    def keep(self, vms: Iterable[VmId]) -> None:
        """Forget all others."""
        known = frozenset(vms)
        self._last = {vm: usage for vm, usage in self._last.items() if vm in known}

    def collect(self) -> Iterator[Metric]:
        """One family per counter, one sample per VM."""
        cpu = CounterMetricFamily("onedock_vm_cpu_seconds", "CPU time used", labels=["vm"])
        memory = GaugeMetricFamily("onedock_vm_memory_bytes", "Memory in use", labels=["vm"])
        network = CounterMetricFamily("onedock_vm_network_bytes", "Traffic of all NICs", labels=["vm", "direction"])
        disk = CounterMetricFamily("onedock_vm_disk_bytes", "Bytes moved to and from disks", labels=["vm", "direction"])
        for usage in self._last.values():
            vm = str(usage.vm)
            cpu.add_metric([vm], usage.cpu_ns / 1e9)
            memory.add_metric([vm], usage.memory_bytes)
            network.add_metric([vm, "in"], usage.net_rx_bytes)
            network.add_metric([vm, "out"], usage.net_tx_bytes)
            disk.add_metric([vm, "read"], usage.disk_read_bytes)
            disk.add_metric([vm, "written"], usage.disk_write_bytes)
        yield from (cpu, memory, network, disk)
