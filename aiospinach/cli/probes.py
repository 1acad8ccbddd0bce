"""What a worker process answers to probes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util

import msgspec

from aiospinach import Engine, InvalidValue

from .probe_server import Answer

LIVE_LAG = 15.0
"""Seconds by which the event loop of a live process is late at most."""
NO_METRICS = Answer(404, b'{"error":"metrics need more packages: pip install \'aiospinach[prometheus]\'"}')


class Probes:
    """Answers the probes about the workers of one engine in this process."""

    def __init__(self, engine: Engine, *, with_metrics: bool) -> None:
        self._engine = engine
        self._has_metrics = with_metrics and importlib.util.find_spec("prometheus_client") is not None
        if self._has_metrics:
            from aiospinach.contrib import prometheus

            with contextlib.suppress(InvalidValue):  # the program has instrumented its engine itself
                prometheus.instrument(engine)

    async def answer(self, path: str) -> Answer:
        """Return the answer: 200 if the workers are live, or ready; else 503."""
        if path == "/metrics":
            return await self._metrics()
        health = self._engine.health()
        is_live = health.is_running and health.loop_lag < LIVE_LAG
        is_well = is_live if path == "/live" else is_live and health.is_connected
        return Answer(200 if is_well else 503, msgspec.json.encode(health))

    async def _metrics(self) -> Answer:
        if not self._has_metrics:
            return NO_METRICS
        from aiospinach.contrib.prometheus_text import metrics_text

        # In a thread: only there the scrape waits for the depths of the queues.
        return Answer(200, *await asyncio.to_thread(metrics_text))
