"""Metrics of jobs, queues and signals for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from aiospinach import Engine, InvalidValue, Job, JobStatus, signals

from .connections import Connections
from .prometheus_scrape import ScrapeCollector
from .queue_cache import QueueCache

LABELS = ("namespace", "task", "queue")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
"""Seconds: from a quick job to one of two hours."""

_metrics_of: WeakKeyDictionary[CollectorRegistry, Metrics] = WeakKeyDictionary()
_running: ContextVar[tuple[Job, ...]] = ContextVar("aiospinach_prometheus", default=())
"""The jobs whose job_finished is to come: one within the other, if a body awaits ``engine.execute``."""


def instrument(engine: Engine, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Count the jobs of an engine, and export the depth of its queues.

    A scrape does not call the store: it has the event loop of the engine refresh the depths, every 5 seconds
    at most. A scrape in a thread waits half a second at most for them. A scrape within an event loop exports
    the last known depths, which are refreshed until two minutes after it. Several engines may share a
    registry.

    Returns a function that undoes this; a second call of it does nothing. Raises InvalidValue if the
    namespace of the engine is instrumented already, and the registry's ValueError if it has such names.
    """
    if not isinstance(registry, CollectorRegistry):
        raise InvalidValue(
            f"prometheus.instrument(registry=) takes a CollectorRegistry, not {type(registry).__name__}"
        )
    with Connections("prometheus", engine) as connections:
        metrics = _metrics_of.get(registry) or Metrics(registry)
        cache = QueueCache(engine)
        metrics.collector.caches.append(cache)
        connections.on_undo(lambda: _remove(registry, cache))
        connections.add(signals.worker_started, cache.on_signal)
        connections.add(signals.job_scheduled, cache.on_signal)
        connections.add(signals.job_started, metrics.on_started)
        connections.add(signals.job_schedule_retry, metrics.on_retry)
        connections.add(signals.job_failed, metrics.on_outcome)
        connections.add(signals.job_cancelled, metrics.on_outcome)
        connections.add(signals.job_finished, metrics.on_finished)
        return connections.undo


class Metrics:
    """The metrics of all engines that share a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Counter(
            "aiospinach_jobs",
            "Jobs that have ended, by their outcome.",
            [*LABELS, "outcome"],
            registry=None,
        )
        self._retries = Counter(
            "aiospinach_job_retries", "Tries that failed and are followed by another.", LABELS, registry=None
        )
        self._duration = Histogram(
            "aiospinach_job_duration_seconds",
            "How long the body of a job took.",
            LABELS,
            buckets=BUCKETS,
            registry=None,
        )
        self._delay = Histogram(
            "aiospinach_job_delay_seconds",
            "How long after its moment a job was started.",
            LABELS,
            buckets=BUCKETS,
            registry=None,
        )
        self.collector: ScrapeCollector = ScrapeCollector()
        self._registered: list[Any] = []
        try:
            for each in (self._jobs, self._retries, self._duration, self._delay, self.collector):
                registry.register(each)
                self._registered.append(each)
        except BaseException:
            self.unregister(registry)
            raise
        _metrics_of[registry] = self

    def unregister(self, registry: CollectorRegistry) -> None:
        """Remove the metrics from the registry."""
        while self._registered:
            registry.unregister(self._registered.pop())

    def on_started(self, namespace: str, job: Job, **kwargs: Any) -> None:
        _running.set((*_running.get(), job))
        delay = (datetime.now(UTC) - job.at).total_seconds()
        self._delay.labels(*_labels(job)).observe(max(0.0, delay))

    def on_retry(self, namespace: str, job: Job, **kwargs: Any) -> None:
        self._retries.labels(*_labels(job)).inc()

    def on_outcome(self, namespace: str, job: Job, **kwargs: Any) -> None:
        """Count a job that ended without a body: job_finished counts all others."""
        if job not in _running.get():
            self._count(job)

    def on_finished(self, namespace: str, job: Job, duration: float, **kwargs: Any) -> None:
        _running.set(tuple(each for each in _running.get() if each != job))
        self._duration.labels(*_labels(job)).observe(duration)
        if job.status in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED):
            self._count(job)

    def _count(self, job: Job) -> None:
        self._jobs.labels(*_labels(job), job.status.value).inc()


def _labels(job: Job) -> tuple[str, str, str]:
    return job.namespace, job.task_name, job.queue


def _remove(registry: CollectorRegistry, cache: QueueCache) -> None:
    """Export the queues of an engine no longer. The last engine takes all metrics along."""
    cache.close()
    metrics = _metrics_of[registry]
    metrics.collector.caches.remove(cache)
    if not metrics.collector.caches:
        metrics.unregister(registry)
        del _metrics_of[registry]
