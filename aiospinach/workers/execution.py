"""The steps of a run, in order: prepare, perform, settle, conclude, report."""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from typing import Any, Protocol

import msgspec

from .. import signals
from ..brokers.records import Envelope, Lease, Settlement
from ..exceptions import InvalidValue, JobCancelled, LeaseLost, UnknownTask, WorkerLost
from ..failures import class_name, describe
from ..job import Job, JobStatus, running_job
from ..logs import Log
from ..outcome import CANCELLED, SUCCESS, Action, Outcome
from ..signals import SafeNamedSignal
from ..signals.receivers import share_context, while_handling
from ..task import Task
from ..timing import from_milliseconds
from .body import Body, drop_pending_cancellations
from .outbox import APPLIED, FENCED, NO_RUN, Outbox, SettleResult
from .results import stored_result
from .state import PoolState
from .verdict import log_outcome, reason_of_pause, verdict

logger: Log = Log("aiospinach")

RUNNING = JobStatus.RUNNING  # Python 3.11 reads it from the class ten times as slowly


class RunHost(Protocol):
    """The owner of a run, which the run calls at the end of its steps."""

    def body_ended(self, run: Execution) -> None:
        """The run needs its slot no longer, and its settlement is in the outbox."""

    def ended(self, run: Execution) -> None:
        """The run has sent its last signal."""

    def put_off(self, run: Execution, delay: float) -> None:
        """The job was put back, to be tried again in ``delay`` seconds."""

    def parked(self, run: Execution) -> None:
        """The job was put back, to wait for a worker that knows its task."""


class Execution:
    """The steps of one run, in an asyncio task and a context of its own.

    Each step reads the job and its error from the attributes, and updates them for the next step. No error
    of a user's code escapes: errors and cancellations of the body become values. Only the body is ever
    cancelled. The steps after it go on whatever happens.
    """

    __slots__ = (
        "_error",
        "_host",
        "_job",
        "_now",
        "_outcome",
        "_result",
        "_state",
        "_task",
        "_waiter",
        "body",
        "context",
        "duration",
        "holds_slot",
        "is_abandoned",
        "is_recovery",
        "is_settled",
        "is_suspected",
        "lease",
        "outbox",
        "settle_result",
        "successor",
        "task",
    )

    _job: Job
    """The latest snapshot of the job."""
    _outcome: Outcome
    _now: int
    """When the outcome was decided, by the clock of the broker."""

    def __init__(
        self, host: RunHost, state: PoolState, outbox: Outbox, lease: Lease, *, is_recovery: bool = False
    ) -> None:
        self._error: BaseException | None = None
        """Why the run did not succeed."""
        self._host = host
        self._state = state
        self.outbox: Outbox = outbox
        self.lease: Lease = lease
        self.is_recovery: bool = is_recovery
        """The worker of the job was lost. The run judges and settles the job, and does not run the body."""
        self.holds_slot: bool = not is_recovery
        """The body has not ended yet."""
        self.settle_result: SettleResult | None = None
        """What the broker did with the settlement, once it has answered."""
        self.is_abandoned: bool = False
        """The body ignores its cancellation, and the pool does not wait for it."""
        self.is_suspected: bool = False
        """At least once the lease was not renewed in time."""
        self.is_settled: bool = False
        """The task has ended, and only the broker's answer is to come."""
        self.successor: Envelope | None = None
        """A job of the same id, which takes the place of this job when this job ends."""
        self.duration: float = 0.0
        """Seconds that the body took."""
        self._result: Any = None
        self._task: Task[..., Any] | None = state.tasks.get(lease.job.task)
        self._waiter: asyncio.Future[None] | None = None
        self.context: Context = state.context.copy()
        self.task: asyncio.Task[None] = asyncio.Task(self._main(), loop=state.loop, context=self.context)
        self.body: Body = Body(state, self._task, self.task, lease.trusted_until)

    async def _main(self) -> None:
        try:
            if is_executed := self._prepare():
                if signals.job_started.receivers:
                    await self._send(signals.job_started, {"job": self._job})
                if self._error is None:
                    self._result, self._error = await self.body.run(self._job)
                    self.duration = time.perf_counter() - self.body.began
            if self.is_abandoned:
                return
            if self.body.reason is not None and self.body.is_lost:
                self._on_lease_lost()
            else:
                self._settle(is_executed)
                if self.is_settled:
                    return
                await self._conclude()
            await self._report(is_executed)
        except Exception as error:
            self._state.crash(error)
        finally:
            if not self.is_settled:
                self._host.ended(self)

    def _prepare(self) -> bool:
        """Read the arguments of the body. Returns False if there is no body to run."""
        task, args, kwargs = self._task, (), None
        is_executed = task is not None and not self.is_recovery
        if self.is_recovery:
            self._error = WorkerLost("the worker that ran the job disappeared")
        elif task is None:
            self._error = UnknownTask(f"no task {self.lease.job.task!r} is attached to this engine")
        else:
            share_context(self.task, self.context)
            try:
                stored = self.lease.job
                args, kwargs = task._arguments.decode(stored.arguments if stored.has_meta else stored.body)
            except InvalidValue as unreadable:
                self._error = unreadable
        job = self._job = self._snapshot(RUNNING, args, kwargs)
        running_job.set(job)
        if job.headers and self._state.surroundings.carried.is_used:
            self._state.surroundings.carried.restore(job, self._state.fields)
        return is_executed

    def _on_lease_lost(self) -> None:
        """The store gave the job to another worker, or forgot it: there is nothing to settle."""
        self._job = msgspec.structs.replace(self._job, status=JobStatus.NOT_SET)
        self._error = self.body.reason
        self._host.body_ended(self)

    def _settle(self, is_executed: bool) -> None:
        """Send the outcome to the broker, and leave the slot to another job."""
        stored = b""
        if self.lease.job.result_ttl and self._error is None:
            stored, self._error = stored_result(self._task, self._result)
        if self._error is None:
            self._outcome = SUCCESS
            # Without receivers of job_finished the task need not wait for the broker's answer.
            self.is_settled = not signals.job_finished.receivers
            settlement = Settlement(
                self.lease, SUCCESS.action, successor=self.successor, result=stored, duration=self.duration
            )
        else:
            settlement = self._judge(self._error, is_executed)
        self.outbox.settle(settlement, self)
        self._host.body_ended(self)

    def _judge(self, error: BaseException, is_executed: bool) -> Settlement:
        """Decide what becomes of a job that did not succeed."""
        state, task, detail = self._state, self._task, b""
        self._now = state.broker.now()
        backoff = task.backoff if task is not None else None
        has_begun = self.body.has_begun
        outcome = self._outcome = verdict(state, self._job, error, self._now, backoff, has_begun=has_begun)
        if outcome.action is Action.PARK:  # before the next exchange
            self.outbox.add_unknown(self._job.task_name)
        elif outcome.action is Action.FAIL:
            detail = describe(error, outcome.reason, state.redaction)
        elif outcome.action is Action.RETRY:
            detail = class_name(error).encode()
        is_bare = state.redaction.arguments
        pause = reason_of_pause(state, error) if outcome.pauses_task else None
        return Settlement(
            self.lease,
            outcome.action,
            outcome.delay,
            detail,
            is_bare,
            self.successor,
            pause=pause,
            duration=self.duration if is_executed else NO_RUN,
            error=class_name(error),
        )

    async def _conclude(self) -> None:
        """Wait for the broker's answer, and update the job and its error."""
        while self.settle_result is None:
            self._waiter = self._state.loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self._state.on_cancellation()
        if self.settle_result is FENCED:
            self._job = msgspec.structs.replace(self._job, status=JobStatus.NOT_SET)
            self._error = self._log_fence(self._job)
            return
        if self.settle_result is not APPLIED:  # cancelled
            cancelled = JobCancelled("the job was cancelled")
            cancelled.__cause__ = self._error
            self._error, self._outcome = cancelled, CANCELLED
        self._apply_outcome()

    def _apply_outcome(self) -> None:
        """Update the job after the broker has stored the outcome, and log it."""
        outcome, error = self._outcome, self._error
        if outcome.action is Action.RETRY:
            self._job = msgspec.structs.replace(
                self._job,
                status=outcome.status,
                at=from_milliseconds(self._now + outcome.delay * 1000),
                retries=self._job.retries + 1,
                error=class_name(error) if error is not None else None,
            )
            self._host.put_off(self, outcome.delay)
        else:
            self._job = msgspec.structs.replace(self._job, status=outcome.status)
            if outcome.action is Action.PARK:
                self._host.parked(self)
        if error is not None:
            log_outcome(self._state, self._job, outcome, error)

    async def _report(self, is_executed: bool) -> None:
        """Send the last signals of the run."""
        job, error = self._job, self._error
        if error is not None:
            if job.status is JobStatus.WAITING and not isinstance(error, UnknownTask):
                await self._send(signals.job_schedule_retry, {"job": job, "err": error})
            elif job.status is JobStatus.FAILED:
                await self._send(signals.job_failed, {"job": job, "err": error})
            elif job.status is JobStatus.CANCELLED:
                await self._send(signals.job_cancelled, {"job": job})
        if is_executed and signals.job_finished.receivers:
            finished = {"job": job, "err": error, "duration": self.duration, "result": self._result}
            await self._send(signals.job_finished, finished)

    def on_settled(self, result: SettleResult) -> None:
        """Take the broker's answer to the settlement."""
        raise NotImplementedError

    def _log_fence(self, job: Job) -> LeaseLost:
        error = LeaseLost("the store gave the job to another worker, or forgot it")
        logger.warning(
            "%r had lost its lease, and its outcome does not count: %s",
            job,
            error,
            fields=self._state.fields,
        )
        return error

    async def _send(self, signal: SafeNamedSignal, kwargs: dict[str, Any]) -> None:
        """Call the receivers of a signal, and wait for those that are async."""
        if not signal.receivers or signal.is_muted:
            return
        error, call = kwargs.get("err"), (self._state.namespace, kwargs)
        results, runs = signal._call(*call) if error is None else while_handling(error, signal._call, *call)
        if not runs:
            return
        timeout = self._state.sender.timeout
        try:
            await signal._gather(results, runs, timeout=timeout, context=self.context)
        except asyncio.CancelledError:
            await drop_pending_cancellations(self.task)
            self._state.on_cancellation()

    def _snapshot(
        self, status: JobStatus, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Job:
        """A new snapshot of the job."""
        return self.lease.job.as_job(self._state.namespace, self.outbox.queue, status, args, kwargs)
