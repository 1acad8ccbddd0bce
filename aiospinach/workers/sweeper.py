"""The sweeper of a span: looks at all its queues every few seconds, for work that no wake-up announced."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from ..brokers.records import SweepResult
from ..exceptions import BrokerError
from .bell import Bell
from .consumer import Consumer
from .maintenance import Maintenance
from .reporter import Reporter
from .span import Span
from .state import PoolState

SWEEPING = "looking for jobs"
LONGEST_PAUSE = 1.0
"""The longest time between two looks at queues whose broker is away, in seconds."""


class Sweeper:
    """Looks at the queues of one span in one call every tick period, which is at most 5 seconds.

    Within that time an idle worker finds jobs of lost workers, and new jobs whose wake-up was lost.
    """

    def __init__(
        self,
        state: PoolState,
        span: Span,
        consumers: Sequence[Consumer],
        maintenances: Sequence[Maintenance],
        reporter: Reporter,
    ) -> None:
        self._state = state
        self._span = span
        self.consumers: Sequence[Consumer] = consumers
        self._maintenances = maintenances
        self._reporter = reporter
        self._bell = Bell()
        self.on_swept: Callable[[], None]
        """Called after each look that the broker has answered."""
        self._is_calling = False
        self.answered_at: float | None = None
        """When the broker answered last, by ``time.monotonic()``."""
        self.loop_lag: float = 0.0
        """Seconds by which the event loop was late with the last sweep."""

    @property
    def is_failing(self) -> bool:
        """The broker has not answered the last look."""
        return self._span.outage.is_of(SWEEPING)

    def ring(self) -> None:
        """Sweep now: a wake-up may have been missed."""
        self._bell.ring()

    async def work(self) -> None:
        """Sweep until cancelled, or until the pool stops."""
        while self._state.is_working:
            self._bell.clear()
            await self._rest(await self._sweep())

    async def _sweep(self) -> float:
        """Sweep once. Returns the seconds to the next sweep."""
        period = self._state.broker.tick_period
        try:
            swept = await self._report()
        except BrokerError as error:
            self._span.outage.begin(SWEEPING, error)
            return min(LONGEST_PAUSE, period)
        self._span.outage.end(SWEEPING)
        self.answered_at = time.monotonic()
        for consumer, maintenance, seen in zip(self.consumers, self._maintenances, swept, strict=True):
            consumer.on_parked(seen.parked)
            if seen.is_something_to_run and consumer.is_empty:  # guard: work without a wake-up
                consumer.wake()
            if seen.next_due is not None:  # guard: due without a wake-up
                maintenance.tick_within(seen.next_due)
        self.on_swept()
        return period

    async def leave(self) -> None:
        """Report for the last time, as the pool ends. Its queues list the worker no longer."""
        is_out_of_order = self._state.error is not None or self.is_failing
        if self.answered_at is None or is_out_of_order or self._is_calling:
            return
        with contextlib.suppress(BrokerError):
            await self._report(is_last=True)

    async def _report(self, *, is_last: bool = False) -> Sequence[SweepResult]:
        reports = self._reporter.of_queues(self._span.queues)
        worker = self._reporter.report(self.loop_lag)
        self._is_calling = True
        try:
            swept = await self._state.broker.sweep(self._span.queues, worker, reports, is_last=is_last)
        finally:
            self._is_calling = False
        self._reporter.on_sent(reports)
        return swept

    async def _rest(self, seconds: float) -> None:
        alarm = time.monotonic() + seconds
        if not await self._bell.wait(seconds):
            self.loop_lag = max(0.0, time.monotonic() - alarm)
