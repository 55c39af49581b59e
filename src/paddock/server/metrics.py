"""What `/metrics` tells Prometheus. Every label has few values: a route is named by its template, never by its path.

Each app has a registry of its own. Jobs are counted in the database when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from paddock import __version__
from paddock.jobs.store import JobStore
from paddock.server.admission import Admission

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

UNROUTED = "unrouted"
"""The route of requests that reached none: unknown paths, and what was refused at the door."""


class Metrics:
    """The counters of one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "paddock_requests", "Requests answered.", ["route", "method", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "paddock_request_seconds",
            "From a request's head to the end of its answer.",
            ["route", "method"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._received = Counter("paddock_received_bytes", "Bytes of requests' bodies.", registry=self._registry)
        self._sent = Counter("paddock_sent_bytes", "Bytes of answers' bodies.", registry=self._registry)
        self._rows = Counter(
            "paddock_rows",
            "Rows of datasets that were appended or read over HTTP.",
            ["operation"],
            registry=self._registry,
        )
        self._refused = Counter(
            "paddock_requests_refused", "Requests answered 429, by the limit.", ["limit"], registry=self._registry
        )
        ProcessCollector(registry=self._registry)

    def watch(self, jobs: JobStore, admission: Admission, engine_pid: Callable[[], int | None]) -> None:
        """Tell of these too."""
        self._registry.register(_State(jobs, admission, engine_pid))

    def count_request(
        self, *, route: str, method: str, status: int, seconds: float, num_bytes_received: int, num_bytes_sent: int
    ) -> None:
        """A request has been answered; `status` 0 if its client left before."""
        method = method if method in _METHODS else "other"
        self._requests.labels(route, method, f"{status // 100}xx" if status else "none").inc()
        self._seconds.labels(route, method).observe(seconds)
        self._received.inc(num_bytes_received)
        self._sent.inc(num_bytes_sent)

    def count_rows(self, rows: dict[str, int]) -> None:
        """Operation (`append`, `read`) → rows of one request."""
        for operation, num_rows in rows.items():
            self._rows.labels(operation).inc(num_rows)

    def count_refusal(self, limit: str) -> None:
        """A request was answered 429."""
        self._refused.labels(limit).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class _State:
    """What is told by looking, at the time of the question."""

    def __init__(self, jobs: JobStore, admission: Admission, engine_pid: Callable[[], int | None]) -> None:
        self._jobs = jobs
        self._admission = admission
        self._engine_pid = engine_pid

    def describe(self) -> Iterable[Metric]:
        return []  # nothing to look up at registration

    def collect(self) -> Iterable[Metric]:
        yield _gauge("paddock_info", "The version.", ["version"], {(__version__,): 1})
        yield _gauge(
            "paddock_requests_in_flight", "Requests that cost something.", [], {(): self._admission.num_in_flight}
        )
        yield _gauge(
            "paddock_engine_up", "Whether the engine for local models runs.", [], {(): self._engine_pid() is not None}
        )
        yield _gauge("paddock_jobs", "Jobs by kind and status.", ["kind", "status"], self._jobs.counts_by_kind())
        yield _gauge(
            "paddock_oldest_scheduled_job_seconds",
            "How long the oldest waiting job has waited.",
            [],
            {(): self._jobs.oldest_scheduled_seconds()},
        )


def _gauge(name: str, documentation: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for label_values, value in values.items():
        family.add_metric(list(label_values), value)
    return family
