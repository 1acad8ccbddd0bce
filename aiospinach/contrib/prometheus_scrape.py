"""What a scrape of Prometheus reads: the last known depths of queues, and the numbers of signals."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import Context
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aiospinach import AiospinachError, Engine, QueueCounts, signals

REFRESHED_EVERY = 5.0
WANTED_FOR = 120.0
"""Seconds after a scrape for which the depths are refreshed."""
KEPT_FOR = 60.0
"""Seconds after which depths that could not be refreshed are not exported any more."""
WAIT_AT_MOST = 0.5
"""Seconds that a scrape waits for depths, if it runs in a thread without an event loop."""
REFRESHED_WITHIN = 5.0

STATES = ("ready", "running", "waiting", "dead", "parked")
SIGNALS = [value for value in vars(signals).values() if isinstance(value, signals.SafeNamedSignal)]


class QueueCache:
    """The last known counts of an engine's queues, which its event loop refreshes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._counts: Mapping[str, QueueCounts] = {}
        self._refreshed_at = float("-inf")
        self._wanted_until = float("-inf")
        self._refreshed = threading.Event()
        self._is_closed = False
        self._note_loop()

    @property
    def namespace(self) -> str:
        return self._engine.namespace

    def on_signal(self, namespace: str, **kwargs: Any) -> None:
        """A signal of the engine was sent: the engine works in this event loop."""
        self._note_loop()

    def read(self) -> Mapping[str, QueueCounts]:
        """The counts by queue; none if they are too old. May be called in any thread; it does not raise."""
        self._wanted_until = time.monotonic() + WANTED_FOR
        loop = self._loop
        if loop is not None and not loop.is_closed() and self._age() >= REFRESHED_EVERY:
            self._refreshed.clear()
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._begin, loop, context=Context())
                if asyncio._get_running_loop() is None and loop.is_running():
                    self._refreshed.wait(WAIT_AT_MOST)
        return self._counts if self._age() < KEPT_FOR else {}

    def close(self) -> None:
        """Refresh no more."""
        self._is_closed = True
        task, loop = self._task, self._loop
        if task is not None and loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

    def _age(self) -> float:
        return time.monotonic() - self._refreshed_at

    def _note_loop(self) -> None:
        loop = asyncio._get_running_loop()
        if loop is not None and (self._loop is None or not self._loop.is_running()):
            self._loop = loop

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        is_refreshing = self._task is not None and not self._task.done() and self._task.get_loop() is loop
        if not is_refreshing and not self._is_closed:
            self._task = loop.create_task(self._refresh())

    async def _refresh(self) -> None:
        """Refresh the counts as long as they are wanted, and the engine is in use."""
        while time.monotonic() < self._wanted_until and not self._engine.has_ended:
            with contextlib.suppress(AiospinachError, TimeoutError):  # the workers log an outage
                async with asyncio.timeout(REFRESHED_WITHIN):
                    self._counts = await self._engine.counts()
                self._refreshed_at = time.monotonic()
            self._refreshed.set()
            await asyncio.sleep(REFRESHED_EVERY)


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
