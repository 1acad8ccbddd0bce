"""Orders: messages that make workers act at once, and not only with the next renewal of a lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import msgspec

from ..brokers.orders import CANCEL, ORDERS, STACK, reply_channel, words_of
from ..brokers.subscriptions import Subscription
from ..exceptions import BrokerError, BrokerUnavailable, JobCancelled
from ..logs import Log
from .heartbeat import Heartbeat
from .outbox import Outbox
from .run import Run
from .runs import Runs
from .stacks import stack_of_run
from .state import PoolState

logger: Log = Log("aiospinach")

LOOK_AGAIN_AFTER = 1.0
"""Seconds after which a cancelled job is looked for once more: its lease may have been on its way here."""
ELSEWHERE_AT_MOST = 1000
REPLY_WITHIN = 1.0
REFUSED_FOR = 60.0
"""Seconds after which a worker that may not subscribe tries again."""
LISTEN_FOR = 3600.0


class Orders:
    """Carries out the orders for jobs that run here. Each queue has a service, and all share a connection.

    An order may be lost. Then a renewal reports that a job was cancelled, within a quarter of a lease.
    """

    def __init__(
        self, state: PoolState, runs: Runs, heartbeat: Heartbeat, outboxes: Sequence[Outbox]
    ) -> None:
        self._state = state
        self._runs = runs
        self._heartbeat = heartbeat
        self._outboxes = outboxes
        self._is_refused = False
        """The log has a warning that the store lets this user subscribe to no channel."""

    def services(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """The services, one for each queue."""
        return (partial(self.work, outbox) for outbox in self._outboxes)

    async def work(self, outbox: Outbox) -> None:
        """Listen to the orders of a queue until cancelled."""
        while True:
            async with self._state.broker.subscribe(outbox.queue) as subscription:
                try:
                    await subscription.add([ORDERS])
                except BrokerUnavailable:
                    pass  # the subscription begins once the store is back
                except BrokerError as error:
                    self._on_refused(error)
                    await asyncio.sleep(REFUSED_FOR)
                    continue
                await self._listen(subscription, outbox)

    def cancel(self, queue: str, job_id: str) -> bool:
        """End the body of a job. Returns whether the job runs here."""
        runs = self._runs_of(queue, job_id)
        for run in runs:
            run.cancel(JobCancelled("the job was cancelled"))
        return bool(runs)

    async def _listen(self, subscription: Subscription, outbox: Outbox) -> None:
        queue = outbox.queue
        elsewhere: set[str] = set()
        """Ids of jobs that were cancelled and did not run here."""
        while True:
            message = await subscription.next(LOOK_AGAIN_AFTER if elsewhere else LISTEN_FOR)
            if message is None:  # nothing has come for a while, or orders were lost
                # A renewal knows better: by now another job may have the id.
                if not elsewhere or any(self._runs_of(queue, job_id) for job_id in elsewhere):
                    self._heartbeat.renew(outbox)
                elsewhere.clear()
                continue
            match words_of(message.data):
                case [word, job_id] if word == CANCEL:
                    if not self.cancel(queue, job_id) and len(elsewhere) < ELSEWHERE_AT_MOST:
                        elsewhere.add(job_id)
                case [word, job_id, token] if word == STACK:
                    await self._send_stack(queue, job_id, token)

    async def _send_stack(self, queue: str, job_id: str, token: str) -> None:
        """Answer with a JSON text for each frame, one a line."""
        for run in self._runs_of(queue, job_id):
            lines = b"\n".join(map(msgspec.json.encode, stack_of_run(run, self._state.threads)))
            with contextlib.suppress(BrokerError, TimeoutError):  # then the caller has no answer
                async with asyncio.timeout(REPLY_WITHIN):
                    await self._state.broker.publish(queue, reply_channel(token), lines)

    def _runs_of(self, queue: str, job_id: str) -> list[Run]:
        return [run for run in self._runs if run.lease.job.id == job_id and run.outbox.queue == queue]

    def _on_refused(self, error: BrokerError) -> None:
        if not self._is_refused:
            self._is_refused = True
            logger.warning(
                "worker %s hears of cancelled jobs only when it renews their leases, every %g s: %s",
                self._state.name,
                self._state.broker.lease / 4,
                error,
                fields=self._state.fields,
            )
