"""Prometheus names, all in one place."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_REQUEST_BUCKETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """The controller's metrics. One instance, one registry: tests run several controllers in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "onedock_requests",
            "Requests of oned, by action and result",
            ["action", "result"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "onedock_request_seconds",
            "From the arrival of a request to its outcome",
            ["action"],
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.passes = Counter("onedock_passes", "Reconcile passes, by result", ["result"], registry=self.registry)
        self.actions = Counter("onedock_actions", "Actions done on nodes", ["action"], registry=self.registry)
        self.drifts = Counter("onedock_drifts", "Changes of VMs from outside", ["reason"], registry=self.registry)
        self.pushes = Counter("onedock_pushes", "States pushed to OpenNebula", ["way"], registry=self.registry)
        self.events = Counter("onedock_engine_events", "Events of engines", ["node"], registry=self.registry)
        self.gaps = Counter(
            "onedock_engine_event_gaps",
            "Times that events may have been missed",
            ["node"],
            registry=self.registry,
        )
        self.vms = Gauge("onedock_vms", "VMs by desired power", ["power"], registry=self.registry)
        self.queue_depth = Gauge("onedock_queue_depth", "VMs that are due", registry=self.registry)
        self.undelivered = Gauge(
            "onedock_outcomes_undelivered", "Outcomes on their way to oned", registry=self.registry
        )
        self.node_up = Gauge(
            "onedock_node_up", "Whether engine and agent of a node answer", ["node"], registry=self.registry
        )
        for result in ("done", "retried", "crashed"):
            self.passes.labels(result)
