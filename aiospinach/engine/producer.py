"""The producer: has the broker store and cancel jobs, and sends job_scheduled and job_cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from .. import signals
from ..arguments.meta import Meta, with_meta
from ..batch import Batch, check_bytes
from ..brokers.base import Broker
from ..brokers.questions import Cancel
from ..brokers.records import Envelope
from ..carried import Carried
from ..exceptions import EnqueueUncertain
from ..job import Job, JobStatus
from ..signals import SafeNamedSignal
from ..signals.sender import Sender
from ..task import Task
from .attached_tasks import AttachedTasks
from .batch_order import BatchOrder, with_conclusion
from .duplicates import set_successor, with_stored_time
from .queue_watch import QueueWatch
from .request import NOT_SET, Request, new_ids, request_of

RECEIVERS_WITHIN = 1.0
"""Seconds that a caller waits for receivers at most: the caller may be a web request."""
SENT_AT_ONCE = 100
"""Receivers run for so many jobs of a batch at the same time."""


class Producer:
    """Stores and cancels jobs. Sends job_scheduled and job_cancelled."""

    def __init__(self, broker: Broker, sender: Sender, tasks: AttachedTasks, carried: Carried) -> None:
        self._broker = broker
        self._namespace = sender.namespace
        self._tasks = tasks
        self._carried = carried
        self._queue_watch = QueueWatch(broker, sender.namespace)
        self._sender = Sender(sender.namespace, min(sender.timeout, RECEIVERS_WITHIN))
        self._home: asyncio.AbstractEventLoop | None = None
        """The event loop in which the producer was made, or else stored its first job."""
        with contextlib.suppress(RuntimeError):
            self._home = asyncio.get_running_loop()

    def use_broker(self, broker: Broker) -> None:
        """Store further jobs with another broker."""
        self._broker = broker
        self._queue_watch = QueueWatch(broker, self._namespace)

    def close(self) -> None:
        """Leave no timer in the running event loop."""
        self._queue_watch.close()

    def clear(self) -> None:
        """Forget what the parent of this process did."""
        self._queue_watch.clear()

    @property
    def is_homeless(self) -> bool:
        """Its event loop is closed."""
        return self._home is not None and self._home.is_closed()

    async def schedule(
        self, task: object, at: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Job:
        """Store one job, due at ``at`` (ms since 1970; None: at once)."""
        if self._home is None:
            self._home = asyncio.get_running_loop()
        found = self._tasks.find(task)
        body = found._arguments.encode(args, kwargs)
        if found._result_ms:
            found._result.check()
        headers = self._carried.headers() if self._carried.is_used else None
        has_meta = bool(headers) or found._key is not None
        if has_meta:
            body = with_meta(body, Meta(headers or {}, found._key))
        within = self._broker.enqueue_timeout if found.enqueue_timeout is None else found.enqueue_timeout
        until = time.monotonic() + within
        await self._broker.open(self._namespace, until=until)  # now() is the clock of the store
        now = self._broker.now()
        request = request_of(new_ids(1)[0], now, found, at, args, kwargs, body)
        request.envelope.has_meta = has_meta
        try:
            answer = await self._broker.enqueue(request.queue, [request.envelope], until=until)
        except EnqueueUncertain as error:
            raise with_conclusion(error, partial(self._conclude, request)) from error
        return await self._conclude(request, answer)

    async def schedule_batch(self, batch: Batch, within: float | None) -> list[Job]:
        """Store the jobs of a batch, queue by queue. Returns them in the order of the batch."""
        if self._home is None:
            self._home = asyncio.get_running_loop()
        found = [self._tasks.find(entry.task) for entry in batch]
        bodies = [
            task._arguments.encode(entry.args, entry.kwargs) if entry.body is None else entry.body
            for task, entry in zip(found, batch, strict=True)
        ]
        for task in set(found):
            if task._result_ms:
                task._result.check()
        metas = self._metas_of(found)
        if metas is not None:
            bodies = [
                body if meta is None else with_meta(body, meta)
                for body, meta in zip(bodies, metas, strict=True)
            ]
        check_bytes(sum(map(len, bodies)))
        until = time.monotonic() + (self._broker.enqueue_timeout if within is None else within)
        await self._broker.open(self._namespace, until=until)  # now() is the clock of the store
        now = self._broker.now()
        requests = [
            request_of(new_id, now, task, entry.at, entry.args, entry.kwargs, body)
            for new_id, task, entry, body in zip(new_ids(len(bodies)), found, batch, bodies, strict=True)
        ]
        if metas is not None:
            for request, meta in zip(requests, metas, strict=True):
                request.envelope.has_meta = meta is not None
        order = BatchOrder(
            self._broker,
            self._namespace,
            requests,
            on_duplicate=self._duplicate,
            announce=self._send_scheduled,
        )
        try:
            return await order.store(until)
        finally:
            for queue in order.answered_queues:
                self._queue_watch.note(queue)

    async def cancel(self, queues: Sequence[str], job_id: str) -> tuple[JobStatus, str]:
        """Cancel a job in the first of the queues that has it. Returns its status before, and the queue."""
        await self._broker.open_in_time(self._namespace)
        for queue in queues:
            cancelled = await self._broker.steer(queue, Cancel(job_id))
            if cancelled.status is JobStatus.NOT_SET:
                continue
            if cancelled.job is not None and cancelled.status is not JobStatus.RUNNING:
                await self._sender.send(signals.job_cancelled, {"job": self._read(cancelled.job, queue)})
            return cancelled.status, queue
        return JobStatus.NOT_SET, ""

    def _metas_of(self, tasks: Sequence[Task[..., Any]]) -> list[Meta | None] | None:
        """The meta of each job of a batch; None if no job has any."""
        headers = self._carried.headers() if self._carried.is_used else {}
        if not headers and all(task._key is None for task in set(tasks)):
            return None
        return [Meta(headers, task._key) if headers or task._key is not None else None for task in tasks]

    async def _conclude(self, request: Request, answer: Sequence[bool]) -> Job:
        """Send job_scheduled after the broker's answer to one job, and return the job."""
        self._queue_watch.note(request.queue)
        job = request.as_job(self._namespace, True) if answer[0] else self._duplicate(request)
        if job.status is not NOT_SET:
            if signals.job_scheduled.receivers:
                await self._sender.send(signals.job_scheduled, {"job": job})
        elif not request.envelope.at_once:
            return await with_stored_time(self._broker, job)
        return job

    def _duplicate(self, request: Request) -> Job:
        """The job after the broker has refused it: NOT_SET, unless it succeeds the job that scheduled it."""
        job = request.as_job(self._namespace, False)
        if set_successor(self._broker, job, request.envelope):
            return request.as_job(self._namespace, True)
        return job

    async def _send_scheduled(self, jobs: Sequence[Job]) -> None:
        """Send job_scheduled for the new jobs of a batch, for ``SENT_AT_ONCE`` at a time.

        After a sending that took the whole time limit, ten times as many go together. So a receiver that
        hangs for every job holds up the sender for a few time limits, and not for one time limit a job.
        """
        if signals.job_scheduled.receivers:
            new = [job for job in jobs if job.status is not NOT_SET]
            await self._send_each(signals.job_scheduled, new)

    async def send_cancelled(self, envelopes: Sequence[Envelope], queue: str) -> None:
        """Send job_cancelled for each of these jobs, as ``job_scheduled`` is sent for those of a batch."""
        if envelopes and signals.job_cancelled.receivers:
            await self._send_each(signals.job_cancelled, [self._read(each, queue) for each in envelopes])

    async def _send_each(self, signal: SafeNamedSignal, jobs: Sequence[Job]) -> None:
        sendings = [{"job": job} for job in jobs]
        first, at_once = 0, SENT_AT_ONCE
        while first < len(sendings) and signal.receivers and not signal.is_muted:
            some = sendings[first : first + at_once]
            first += at_once
            if not await signal._dispatch_all(
                self._namespace, some, timeout=self._sender.timeout, context=None
            ):
                at_once *= 10

    def _read(self, envelope: Envelope, queue: str) -> Job:
        """The cancelled job, with its arguments if they can be read here."""
        args, kwargs = self._tasks.read(envelope.task, envelope.arguments)
        return envelope.as_job(self._namespace, queue, JobStatus.CANCELLED, args, kwargs)
