"""Waiting for running jobs when a pool stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ..logs import Log, LogThrottle
from .consumer import Consumer
from .listener import Listener
from .maintenance import Maintenance
from .runs import Runs
from .state import Phase, PoolState

logger: Log = Log("aiospinach")

LOG_EVERY = 5.0
"""Seconds between two log lines about the jobs that a stop waits for."""
NAMED_AT_MOST = 5
INTERRUPT_GRACE = 2.0
"""Seconds that cancelled bodies have to end when the pool stops, before they are left behind."""


class Draining:
    """Waits for the jobs and settlements of a pool that stops, and gives up those that do not end."""

    def __init__(
        self,
        state: PoolState,
        runs: Runs,
        consumers: Sequence[Consumer],
        maintenances: Sequence[Maintenance],
        listeners: Sequence[Listener],
        shutdown_timeout: float,
    ) -> None:
        self._state = state
        self._runs = runs
        self._consumers = consumers
        self._maintenances = maintenances
        self._listeners = listeners
        self._shutdown_timeout = shutdown_timeout

    async def drain(self) -> None:
        """Wait for running jobs and for settlements, at most for ``shutdown_timeout``.

        Then interrupt the pool, and wait ``INTERRUPT_GRACE`` for bodies and for a broker that do not answer.
        """
        state = self._state
        naming = state.loop.create_task(self._log_what_runs())
        try:
            await state.wait_until(
                lambda: self._is_idle() or state.phase >= Phase.INTERRUPTED, timeout=self._shutdown_timeout
            )
        finally:
            naming.cancel()
            naming.add_done_callback(lambda _: state.changed.ring())
            await state.wait_until(naming.done)  # a cancellation of this task must not end the drain
        if not self._is_idle():
            state.on_interrupt()
        since = time.monotonic()
        await state.wait_until(self.makes_no_call, timeout=INTERRUPT_GRACE)
        throttle = LogThrottle()
        while not self._is_drained():
            await self._leave_stubborn_bodies()
            state.on_interrupt()  # a body whose thread has ended meanwhile has its own grace
            if any(run.holds_slot for run in self._runs) and throttle.allows("threads", LOG_EVERY):
                logger.warning(
                    "worker %s waits for %s in threads, which cannot be stopped",
                    state.name,
                    self._named_jobs(),
                    fields=state.fields,
                )
            self._give_up_what_is_away(since)
            since = time.monotonic()
            await state.wait_until(self._is_drained, timeout=INTERRUPT_GRACE)

    def makes_no_call(self) -> bool:
        """The pool is drained, and no service has a call to the broker under way."""
        return (
            self._is_drained()
            and all(listener.has_ended for listener in self._listeners)
            and not any(maintenance.is_busy for maintenance in self._maintenances)
        )

    async def _log_what_runs(self) -> None:
        """Log every few seconds which jobs the stop waits for."""
        until = self._state.loop.time() + self._shutdown_timeout
        while True:
            await asyncio.sleep(LOG_EVERY)
            if not any(run.holds_slot for run in self._runs):
                continue  # outcomes are still to be stored
            logger.warning(
                "worker %s stops when these have ended: %s; in %.0f s they are cancelled",
                self._state.name,
                self._named_jobs(),
                until - self._state.loop.time(),
                fields=self._state.fields,
            )

    def _named_jobs(self) -> str:
        """How many jobs run, and the names of some."""
        running = [run.summary for run in self._runs if run.holds_slot]
        others = len(running) - NAMED_AT_MOST
        named = ", ".join(running[:NAMED_AT_MOST]) + (f" and {others} more" if others > 0 else "")
        return f"{len(running)} running {'job' if len(running) == 1 else 'jobs'} ({named})"

    async def _leave_stubborn_bodies(self) -> None:
        stubborn = [run for run in self._runs if run.body.is_stubborn]
        for run in stubborn:
            if run.successor is not None:
                logger.warning(
                    "job %s is left behind, and its successor is not stored",
                    run.summary,
                    fields=run.fields,
                )
        for run in stubborn:  # all at once: some may end while the signal of another is sent
            run.is_abandoned = True
            self._runs.ended(run)
        for run in stubborn:
            await run.abandon()

    def _give_up_what_is_away(self, since: float) -> None:
        if any(run.holds_slot for run in self._runs):  # guard: bodies that still settle
            return
        for consumer in self._consumers:
            consumer.give_up_if_away(since)

    def _is_idle(self) -> bool:
        """No job runs, no signal is under way, and every settlement is answered."""
        is_owed = any(consumer.has_unanswered for consumer in self._consumers)
        return not self._runs and not self._state.announcements and not is_owed

    def _is_drained(self) -> bool:
        """The pool is idle, and no call that may bring jobs is under way or has to be made."""
        return self._is_idle() and not any(consumer.is_busy for consumer in self._consumers)
