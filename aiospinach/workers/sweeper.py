"""Looking at all queues from time to time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..exceptions import BrokerError
from .outage import Outage

if TYPE_CHECKING:
    from .consumer import Consumer
    from .pool import Pool

SWEEPING = "looking for jobs"
LONGEST_PAUSE = 1.0
"""Seconds between two tries to look at queues whose broker is away, at most."""


class Sweeper:
    """Looks at the queues of one span in one call every tick period, at most 5 seconds.

    So an idle worker makes one call for all of them, finds jobs of lost workers, and hears of work within
    that time even if a wake-up was lost.
    """

    def __init__(self, pool: Pool, consumers: Sequence[Consumer]) -> None:
        self._pool = pool
        self.consumers: Sequence[Consumer] = consumers
        self._queues = tuple(consumer.queue for consumer in consumers)
        self._bell = asyncio.Event()
        self.outage: Outage = Outage(f"queues {', '.join(self._queues)}")
        self.answered_at: float | None = None
        """When the broker answered last, by time.monotonic()."""
        self.loop_lag: float = 0.0
        """By how many seconds the event loop was late with the last sweep."""

    @property
    def is_failing(self) -> bool:
        """The broker has not answered the last look."""
        return self.outage.is_of(SWEEPING)

    def ring(self) -> None:
        """Look now: something may have been missed."""
        self._bell.set()

    async def work(self) -> None:
        """Sweep until cancelled, or until the pool stops: it leaves what it would find to others."""
        while not self._pool.is_stopping:
            self._bell.clear()
            await self._rest(await self._sweep())

    async def _sweep(self) -> float:
        """Look once. Returns the seconds to the next look."""
        period = self._pool.broker.tick_period
        try:
            swept = await self._pool.broker.sweep(self._queues, self._pool.name)
        except BrokerError as error:
            self.outage.begin(SWEEPING, error)
            return min(LONGEST_PAUSE, period)
        self.outage.end(SWEEPING)
        self.answered_at = time.monotonic()
        for consumer, seen in zip(self.consumers, swept, strict=True):
            consumer.note_parked(seen.parked)
            if seen.is_something_to_run and consumer.is_empty:  # guard: work without a wake-up
                consumer.wake()
            if seen.next_due is not None:  # guard: due without a wake-up
                consumer.maintenance.note_due(seen.next_due)
        self._pool.use_free_slots()
        if self._pool.stop_when_empty is not None:
            self._pool.stop_when_empty.ring()
        return period

    async def _rest(self, seconds: float) -> None:
        alarm = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            self.loop_lag = max(0.0, time.monotonic() - alarm)
