"""The metrics that a scrape reads when it comes: last known depths of queues, and numbers of signals."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aiospinach import QueueCounts, signals

from .queue_cache import STATES, QueueCache

SIGNALS = [value for value in vars(signals).values() if isinstance(value, signals.SafeNamedSignal)]


class ScrapeCollector(Collector):
    """Exports the depths of queues and the numbers of signals."""

    def __init__(self) -> None:
        self.caches: list[QueueCache] = []

    def describe(self) -> Iterator[Metric]:
        """The metrics without values: registering must not read."""
        yield from _QueueMetrics().all()
        yield from _SignalMetrics().all()

    def collect(self) -> Iterator[Metric]:
        """The metrics with their values."""
        queues, sendings = _QueueMetrics(), _SignalMetrics()
        for cache in list(self.caches):
            for queue, counts in cache.read().items():
                queues.add(cache.namespace, queue, counts)
        for signal in SIGNALS:
            sendings.add(signal)
        yield from queues.all()
        yield from sendings.all()


class _QueueMetrics:
    def __init__(self) -> None:
        labels = ["namespace", "queue"]
        self._jobs = GaugeMetricFamily(
            "aiospinach_queue_jobs", "Jobs in the store.", labels=[*labels, "state"]
        )
        self._oldest = GaugeMetricFamily(
            "aiospinach_queue_oldest_seconds",
            "For how long the first job in line has been due; 0 if the line is empty.",
            labels=labels,
        )
        self._workers = GaugeMetricFamily(
            "aiospinach_queue_workers", "Workers that look at the queue.", labels=labels
        )

    def add(self, namespace: str, queue: str, counts: QueueCounts) -> None:
        for state in STATES:
            self._jobs.add_metric([namespace, queue, state], getattr(counts, state))
        self._oldest.add_metric([namespace, queue], counts.oldest or 0.0)
        self._workers.add_metric([namespace, queue], counts.workers)

    def all(self) -> Iterator[Metric]:
        yield from (self._jobs, self._oldest, self._workers)


class _SignalMetrics:
    def __init__(self) -> None:
        self._counters = {
            name: CounterMetricFamily(f"aiospinach_signal_{name}", text, labels=["signal"])
            for name, text in (
                ("sent", "Sendings of a signal that had receivers."),
                ("failed", "Calls of receivers that raised."),
                ("timed_out", "Calls of receivers that took too long."),
                ("skipped", "Calls of receivers that were left out."),
            )
        }
        self._slowest = GaugeMetricFamily(
            "aiospinach_signal_slowest_seconds",
            "The longest call of a receiver so far.",
            labels=["signal", "receiver"],
        )

    def add(self, signal: signals.SafeNamedSignal) -> None:
        stats = signal.stats()
        for name, counter in self._counters.items():
            counter.add_metric([signal.name], getattr(stats, name))
        if stats.slowest is not None:
            self._slowest.add_metric([signal.name, stats.slowest], stats.slowest_seconds)

    def all(self) -> Iterator[Metric]:
        yield from (*self._counters.values(), self._slowest)
