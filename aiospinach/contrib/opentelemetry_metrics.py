"""Metrics of jobs and queues for OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from aiospinach import Engine, Job, QueueCounts, __version__

from .opentelemetry_attributes import (
    DESTINATION,
    ERROR_TYPE,
    NAMESPACE,
    OUTCOME,
    STATE,
    attributes_of,
    name_of,
    outcome_of,
)
from .queue_cache import STATES, QueueCache

_caches_of: WeakKeyDictionary[MeterProvider, list[QueueCache]] = WeakKeyDictionary()
"""The engines whose depths are observed, by provider: a gauge cannot be removed from its provider."""


class Metrics:
    """Counts the jobs of one engine, and observes the depth of its queues."""

    def __init__(self, engine: Engine, provider: MeterProvider) -> None:
        meter = provider.get_meter("aiospinach", __version__)
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Jobs that were scheduled."
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Tries of jobs that were started."
        )
        self._duration = meter.create_histogram(
            "messaging.process.duration", "s", "How long the body of a job took."
        )
        self._caches = _caches_of.get(provider)
        if self._caches is None:
            self._caches = _caches_of[provider] = []
            _observe(meter, self._caches)
        self._cache = QueueCache(engine)
        self._caches.append(self._cache)

    def close(self) -> None:
        """Observe the depth of the engine's queues no longer."""
        self._cache.close()
        if self._caches is not None:
            self._caches.remove(self._cache)

    def on_worker_started(self, namespace: str, **kwargs: Any) -> None:
        self._cache.on_signal(namespace)

    def on_scheduled(self, namespace: str, job: Job, **kwargs: Any) -> None:
        self._cache.on_signal(namespace)
        self._sent.add(1, attributes_of(job, "schedule", "send"))

    def on_started(self, namespace: str, job: Job, **kwargs: Any) -> None:
        self._consumed.add(1, attributes_of(job, "process", "process"))

    def on_finished(
        self, namespace: str, job: Job, err: BaseException | None, duration: float, **kwargs: Any
    ) -> None:
        attributes = attributes_of(job, "process", "process") | {OUTCOME: outcome_of(job)}
        if err is not None:
            attributes[ERROR_TYPE] = name_of(err)
        self._duration.record(duration, attributes)


def _observe(meter: Meter, caches: list[QueueCache]) -> None:
    """Make the gauges, which show the last known depths of all engines in the list."""

    def gauge(name: str, unit: str, text: str, values_of: Callable[[QueueCounts], dict[str, float]]) -> None:
        def observe(options: CallbackOptions) -> Iterable[Observation]:
            for cache in list(caches):
                for queue, counts in cache.read().items():
                    for state, value in values_of(counts).items():
                        attributes = {NAMESPACE: cache.namespace, DESTINATION: queue}
                        yield Observation(value, attributes | ({STATE: state} if state else {}))

        meter.create_observable_gauge(name, [observe], unit, text)

    gauge("aiospinach.queue.jobs", "{job}", "Jobs in the store.", _depths)
    gauge(
        "aiospinach.queue.oldest",
        "s",
        "For how long the first job in line has been due; 0 if the line is empty.",
        lambda counts: {"": counts.oldest or 0.0},
    )
    gauge(
        "aiospinach.queue.workers",
        "{worker}",
        "Workers that look at the queue.",
        lambda counts: {"": counts.workers},
    )


def _depths(counts: QueueCounts) -> dict[str, float]:
    return {state: getattr(counts, state) for state in STATES}
