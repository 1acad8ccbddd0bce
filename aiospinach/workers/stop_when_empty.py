"""``stop_when_queue_empty``: stops a pool when it has nothing left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..brokers.questions import LookCounts
from ..exceptions import BrokerError
from .bell import Bell
from .execution import Execution
from .run import Run
from .runs import Runs
from .state import PoolState
from .sweeper import Sweeper

LOOK_AGAIN = 0.5
"""Seconds between two looks at queues on which other workers are still busy."""


class StopWhenEmpty:
    """Stops the pool when no job is ready or running, and no retry that it put back waits."""

    def __init__(
        self, state: PoolState, runs: Runs, sweepers: Sequence[Sweeper], stop: Callable[[], None]
    ) -> None:
        self._state = state
        self._runs = runs
        self._sweepers = sweepers
        self._stop = stop
        self._bell = Bell()
        self._retries: dict[tuple[str, str], float] = {}

    def ring(self) -> None:
        """Check again: the last job has ended, or a queue is empty."""
        self._bell.ring()

    def on_retry(self, run: Execution, delay: float) -> None:
        """Wait for a job that was put back, to be tried again in ``delay`` seconds."""
        due = self._state.broker.now() + delay * 1000 + 2  # the broker counts from a little before now
        self._retries[run.outbox.queue, run.lease.job.id] = due

    def forget_retry(self, queue: str, job_id: str) -> None:
        """Stop waiting for a job: it runs again, or never will."""
        if self._retries:
            self._retries.pop((queue, job_id), None)

    def on_start(self, run: Run) -> None:
        """Stop waiting for a job that runs now."""
        self.forget_retry(run.outbox.queue, run.lease.job.id)

    async def work(self) -> None:
        """Watch until cancelled, or until the pool stops."""
        state = self._state
        while state.is_working:
            await self._bell.wait()
            while self._is_idle() and state.is_working:
                left = (max(self._retries.values(), default=0.0) - state.broker.now()) / 1000
                if left < 0 and await self._is_nothing_left():
                    self._stop()
                else:
                    await asyncio.sleep(min(max(left, 0.0) + 0.001, LOOK_AGAIN))

    def _is_idle(self) -> bool:
        """No job runs here, and every queue has been swept and has no known job."""
        return not self._runs and all(
            sweeper.answered_at is not None and all(consumer.is_idle for consumer in sweeper.consumers)
            for sweeper in self._sweepers
        )

    async def _is_nothing_left(self) -> bool:
        """No job runs on other workers either, and no queue has ready jobs."""
        for sweeper in self._sweepers:
            for consumer in sweeper.consumers:
                try:
                    counts = await self._state.broker.look(consumer.queue, LookCounts())
                except BrokerError:
                    return False
                if counts.ready or counts.running:
                    return False
        return self._is_idle()
