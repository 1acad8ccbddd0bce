"""The heartbeat of a pool: renews the leases of its jobs, so that no other worker gets them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import anyio

from ..exceptions import BrokerError, JobCancelled, LeaseLost
from .outbox import Outbox
from .run import Run
from .runs import Runs
from .state import PoolState

RENEWING = "renewing leases"
LONGEST_PAUSE = 1.0
"""The longest time between two tries to renew the leases of a queue, in seconds."""


class Heartbeat:
    """Renews all leases of a pool every quarter of a lease.

    A renewal waits for nothing else, and the renewal of one queue does not wait for that of another.
    """

    def __init__(self, state: PoolState, runs: Runs, outboxes: Sequence[Outbox]) -> None:
        self._state = state
        self._runs = runs
        self._outboxes = outboxes
        self._broker = state.broker
        self._beat_at = 0.0
        self._again: set[Outbox] = set()
        """Queues that got a job while their leases were being renewed."""
        self._renewals: dict[Outbox, asyncio.Task[None]] = {}
        self.answered_at: float | None = None
        """When all leases were last renewed, by ``time.monotonic()``."""

    @property
    def is_failing(self) -> bool:
        """The leases of a queue could not be renewed."""
        return any(outbox.outage.is_of(RENEWING) for outbox in self._outboxes)

    async def work(self) -> None:
        """Renew until cancelled."""
        try:
            while True:
                self._beat()
                await asyncio.sleep(max(0.0, self._beat_at - time.monotonic()))
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self._end()
            raise

    def renew(self, outbox: Outbox) -> None:
        """Renew the leases of a queue now. A renewal under way is followed by another, for new leases."""
        if outbox in self._renewals:
            self._again.add(outbox)
        else:
            # Not create_task: an eager task would end before it is in the table.
            self._renewals[outbox] = asyncio.Task(self._renew(outbox), loop=self._state.loop)

    async def catch_up(self, outbox: Outbox) -> None:
        """Renew the leases of a queue before a tick, if the renewal is overdue.

        Otherwise the tick of a worker that was held up would find the worker's own jobs lost.
        """
        if time.monotonic() >= self._beat_at:
            self._beat()
        if (renewal := self._renewals.get(outbox)) is not None:
            await asyncio.wait([renewal])

    def _beat(self) -> None:
        self._beat_at = time.monotonic() + self._broker.lease / 4
        self._runs.renewed_at = self._beat_at + self._broker.lease / 4
        for outbox in {run.outbox for run in self._runs}:
            if outbox not in self._renewals:
                self.renew(outbox)
        self._update_answered_at()

    async def _renew(self, outbox: Outbox) -> None:
        """Renew the leases of one queue; try again while the broker is away."""
        try:
            while runs := {run.lease.id: run for run in self._runs if run.outbox is outbox}:
                try:
                    self._again.discard(outbox)
                    await self._renew_once(outbox, runs)
                    outbox.outage.end(RENEWING)
                    if outbox in self._again:  # guard: renewal under way
                        continue
                    break
                except BrokerError as error:
                    outbox.outage.begin(RENEWING, error)
                    await asyncio.sleep(min(LONGEST_PAUSE, self._broker.tick_period))
        except Exception as error:
            self._state.crash(error)
        finally:
            outbox.outage.leave(RENEWING)
            del self._renewals[outbox]
            self._update_answered_at()

    async def _renew_once(self, outbox: Outbox, runs: dict[str, Run]) -> None:
        renewed = await self._broker.renew(outbox.queue, runs.keys())
        for run in runs.values():
            run.body.trusted_until = renewed.trusted_until
        for lease in renewed.lost:
            runs[lease].cancel(LeaseLost("the store gave the job to another worker, or forgot it"))
        for lease in renewed.cancelled:
            runs[lease].cancel(JobCancelled("the job was cancelled"))

    def _update_answered_at(self) -> None:
        if not self._renewals:
            self.answered_at = time.monotonic()

    async def _end(self) -> None:
        renewals = list(self._renewals.values())
        for renewal in renewals:
            renewal.cancel()
        if renewals:
            await asyncio.wait(renewals)
