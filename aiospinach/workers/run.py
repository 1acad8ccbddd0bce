"""One run of one job, from its lease to its last signal."""

from __future__ import annotations

import asyncio
import enum
import inspect
import time
from collections.abc import Coroutine
from contextvars import Context
from types import CodeType
from typing import TYPE_CHECKING, Any

import msgspec

from .. import signals
from ..brokers.records import Envelope, Lease, Settlement
from ..exceptions import Interrupted, InvalidValue, JobCancelled, JobError, LeaseLost, UnknownTask, WorkerLost
from ..job import Job, JobStatus, running_job
from ..logs import Log
from ..outcome import CANCELLED, RELEASED, SUCCESS, Action, Outcome, describe
from ..signals import SafeNamedSignal
from ..signals.receivers import ReceiverRun, share_context, while_handling
from ..signals.signal import Results
from ..task import Task
from ..timing import from_milliseconds
from .body import Body, drop_pending_cancellations
from .verdict import log_outcome, verdict

if TYPE_CHECKING:
    from .consumer import Consumer
    from .pool import Pool

logger: Log = Log("aiospinach")


class SettleResult(enum.Enum):
    """What the broker made of a settlement."""

    APPLIED = enum.auto()
    FENCED = enum.auto()
    """The lease was gone, and nothing changed."""
    CANCELLED = enum.auto()
    """The job was to be put back, and somebody had cancelled it: it has ended instead."""


class Run:
    """A job that this pool holds the lease of. It is an asyncio task, in a context of its own.

    Nothing that a user wrote can escape from it: errors and cancellations of the body become values. Only
    the body is ever cancelled; the bookkeeping after it goes on whatever happens.
    """

    __slots__ = (
        "_task",
        "_waiter",
        "abandoned",
        "answer",
        "body",
        "consumer",
        "context",
        "holds_slot",
        "is_recovery",
        "is_settled",
        "is_suspected",
        "lease",
        "pool",
        "successor",
        "task",
    )

    def __init__(self, pool: Pool, consumer: Consumer, lease: Lease, *, is_recovery: bool = False) -> None:
        self.pool: Pool = pool
        self.consumer: Consumer = consumer
        self.lease: Lease = lease
        self.is_recovery: bool = is_recovery
        """The job's worker was lost: it is judged and settled here, and its body does not run."""
        self.holds_slot: bool = not is_recovery
        """The body has not ended yet."""
        self.answer: SettleResult | None = None
        """What the broker made of what became of the job, once it has answered."""
        self.abandoned: bool = False
        self.is_suspected: bool = False
        """Its lease could once not be renewed in time."""
        self.is_settled: bool = False
        """Its task has ended, and the broker's answer is all that is to come."""
        self.successor: Envelope | None = None
        """A job of its own id, which takes its place when it ends."""
        self._task: Task[..., Any] | None = pool.tasks.get(lease.job.task)
        self._waiter: asyncio.Future[None] | None = None
        self.context: Context = pool.context.copy()
        self.task: asyncio.Task[None] = asyncio.Task(self._main(), loop=pool.loop, context=self.context)
        self.body: Body = Body(pool, self._task, self.task, lease.trusted_until)

    @property
    def code(self) -> CodeType | None:
        """The code of the body, if it has one."""
        function = self._task.function if self._task is not None else None
        return getattr(inspect.unwrap(function), "__code__", None) if function is not None else None

    @property
    def told(self) -> str:
        """The job in the few words of a log."""
        age = time.perf_counter() - self.body.began
        return f"{self.lease.job.task} {self.lease.job.id} ({age:.0f} s)"

    def cancel(self, reason: JobError) -> None:
        """Have the body end for this reason, which becomes the error of the run; the first one counts."""
        if not self.holds_slot:
            return
        if self.body.end(reason) and isinstance(reason, LeaseLost):
            job = self._job(JobStatus.NOT_SET)
            logger.warning("%r lost its lease, and is cancelled: %s", job, reason)

    def suspect(self) -> None:
        """The lease could not be renewed in time, and another worker may get the job soon: have the body
        end, unless it runs in a thread. What becomes of the job is settled as usual, and counts if the
        store still has the lease."""
        if self.is_suspected or not (self.holds_slot and self.body.has_begun):
            return
        self.is_suspected = True
        job = self._job(JobStatus.RUNNING)
        if self.body.is_async:
            reason = Interrupted("the lease could not be renewed in time")
            self.body.end(reason, cancels_as=LeaseLost)
            logger.warning("%r may lose its lease, and is cancelled: it could not be renewed in time", job)
        else:
            logger.warning("%r may lose its lease, and goes on: it could not be renewed in time", job)

    def interrupt(self) -> None:
        """Have the body end because the pool does, unless it runs in a thread."""
        if self.body.is_async or not self.body.has_begun:
            self.cancel(Interrupted("the workers stopped while the job ran"))

    def follow_with(self, job: Envelope) -> bool:
        """Have a job of the same id take the place of this one when it ends; False if it has one already."""
        if self.successor is not None:
            return False
        self.successor = job
        return True

    def release(self) -> None:
        """Give a job back that has not begun; a lost one is found again when its new lease runs out."""
        if not self.is_recovery:
            self.consumer.settle(Settlement(self.lease, RELEASED.action), None)

    def hear(self, answer: SettleResult) -> None:
        """Take the broker's answer to the settlement."""
        self.answer = answer
        if self.is_settled:
            try:
                if answer is SettleResult.FENCED:
                    self._fenced(self._job(JobStatus.NOT_SET))
            finally:
                self.pool.ended(self)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def abandon(self) -> None:
        """Tell that a body, which is abandoned, is finished as far as we go; its lease runs out."""
        job = self._job(JobStatus.NOT_SET)
        logger.error("%r ignores its cancellation and is left behind", job)
        finished = {
            "job": job,
            "err": self.body.reason,
            "duration": time.perf_counter() - self.body.began,
            "result": None,
        }
        # In a task, for plain receivers run in the context of the task that calls them.
        telling = asyncio.Task(
            self._tell(signals.job_finished, finished), loop=self.pool.loop, context=self.context
        )
        while not telling.done():
            try:
                await asyncio.wait([telling])
            except asyncio.CancelledError:
                self.pool.interrupt()

    async def _main(self) -> None:
        try:
            await self._live()
        except Exception as error:
            self.pool.crash(error)
        finally:
            share_context(self.task, None)
            if not self.is_settled:
                self.pool.ended(self)

    async def _live(self) -> None:
        error: BaseException | None
        result, duration, executed = None, 0.0, False
        if self.is_recovery:
            job = self._job(JobStatus.RUNNING)
            error = WorkerLost("the worker that ran the job disappeared")
            running_job.set(job)
        elif self._task is None:
            job = self._job(JobStatus.RUNNING)
            error = UnknownTask(f"no task {job.task_name!r} is attached to this engine")
            running_job.set(job)
        else:
            share_context(self.task, self.context)
            executed = True
            try:
                args, kwargs = self._task.arguments.decode(self.lease.job.body)
            except InvalidValue as unreadable:
                job, error = self._job(JobStatus.RUNNING), unreadable
            else:
                job, error = self._job(JobStatus.RUNNING, args, kwargs), None
            running_job.set(job)
            if (sending := self._send(signals.job_started, {"job": job})) is not None:
                await sending
            if error is None:
                result, error = await self.body.run(job)
                duration = time.perf_counter() - self.body.began
                if self.abandoned:
                    return
        if error is None:
            self.is_settled = not signals.job_finished.receivers
            self._give_back(SUCCESS)
            if self.is_settled:
                return  # nobody listens, so the task need not wait for the broker's answer
            job, error = await self._conclude(job, None, SUCCESS)
        else:
            job, error = await self._settle(job, error)
        if error is not None:
            if job.status is JobStatus.WAITING and not isinstance(error, UnknownTask):
                await self._tell(signals.job_schedule_retry, {"job": job, "err": error})
            elif job.status is JobStatus.FAILED:
                await self._tell(signals.job_failed, {"job": job, "err": error})
            elif job.status is JobStatus.CANCELLED:
                await self._tell(signals.job_cancelled, {"job": job})
        if executed:
            told = {"job": job, "err": error, "duration": duration, "result": result}
            if (sending := self._send(signals.job_finished, told)) is not None:
                await sending

    def _give_back(self, outcome: Outcome, detail: bytes = b"") -> None:
        """Send the outcome to the broker, and leave the slot to another job."""
        is_bare = self.pool.redaction.arguments
        settlement = Settlement(self.lease, outcome.action, outcome.delay, detail, is_bare, self.successor)
        self.consumer.settle(settlement, self)
        self.pool.body_ended(self)

    async def _settle(self, job: Job, error: BaseException) -> tuple[Job, BaseException | None]:
        """Have the broker store what becomes of a job that did not succeed; gives back where it is now, and
        why."""
        if self.body.is_lost:
            self.pool.body_ended(self)
            return msgspec.structs.replace(job, status=JobStatus.NOT_SET), self.body.reason
        now = self.pool.broker.now()
        backoff = self._task.backoff if self._task is not None else None
        redaction = self.pool.redaction
        outcome = verdict(job, error, now, backoff, has_begun=self.body.has_begun, redaction=redaction)
        if outcome.action is Action.PARK:  # before the next exchange
            self.consumer.note_unknown(job.task_name)
        is_dead = outcome.action is Action.FAIL
        self._give_back(outcome, describe(error, outcome.reason, redaction) if is_dead else b"")
        return await self._conclude(job, error, outcome, now)

    async def _conclude(
        self, job: Job, error: BaseException | None, outcome: Outcome, now: int = 0
    ) -> tuple[Job, BaseException | None]:
        """Wait for the broker's answer; gives back where the job is now, and why."""
        while self.answer is None:
            self._waiter = self.pool.loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self.pool.notice_cancellation()
        if self.answer is SettleResult.FENCED:
            return self._fenced(job)
        if self.answer is SettleResult.CANCELLED:
            cancelled = JobCancelled("the job was cancelled")
            cancelled.__cause__ = error
            error, outcome = cancelled, CANCELLED
        if error is None:
            return msgspec.structs.replace(job, status=outcome.status), None
        job = self._after(job, outcome, now)
        log_outcome(job, outcome, error, self.pool.known_errors, self.pool.redaction)
        return job, error

    def _fenced(self, job: Job) -> tuple[Job, LeaseLost]:
        error = LeaseLost("the store gave the job to another worker, or forgot it")
        job = msgspec.structs.replace(job, status=JobStatus.NOT_SET)
        logger.warning("%r had lost its lease, and how it ended does not count: %s", job, error)
        return job, error

    def _after(self, job: Job, outcome: Outcome, now: int) -> Job:
        if outcome.action is Action.RETRY:
            at = from_milliseconds(now + outcome.delay * 1000)
            self.pool.note_retry(self, outcome.delay)
            return msgspec.structs.replace(job, status=outcome.status, at=at, retries=job.retries + 1)
        if outcome.action is Action.PARK:  # a look tells how many wait, and is logged
            self.pool.look_again()
        return msgspec.structs.replace(job, status=outcome.status)

    async def _tell(self, signal: SafeNamedSignal, kwargs: dict[str, Any]) -> None:
        if (sending := self._send(signal, kwargs)) is not None:
            await sending

    def _send(self, signal: SafeNamedSignal, kwargs: dict[str, Any]) -> Coroutine[Any, Any, None] | None:
        """Call the receivers of a signal; gives back what remains to be awaited, if anything does."""
        if not signal.receivers or signal.is_muted:
            return None
        error, call = kwargs.get("err"), (self.pool.namespace, kwargs)
        results, runs = signal.call(*call) if error is None else while_handling(error, signal.call, *call)
        return self._gather(signal, results, runs, kwargs) if runs else None

    async def _gather(
        self, signal: SafeNamedSignal, results: Results, runs: list[ReceiverRun], kwargs: dict[str, Any]
    ) -> None:
        try:
            await signal.gather(results, runs, timeout=self.pool.signal_timeout, context=self.context)
        except asyncio.CancelledError:
            await drop_pending_cancellations(self.task)
            self.pool.notice_cancellation()

    def _job(
        self, status: JobStatus, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Job:
        return self.lease.job.as_job(self.pool.namespace, self.consumer.queue, status, args, kwargs)
