"""One run of one job, from its lease to its last signal, and what the pool may ask of it meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import time
from types import CodeType

from .. import signals
from ..brokers.records import Envelope
from ..exceptions import Interrupted, JobError, LeaseLost
from ..job import Job, JobStatus
from ..logs import Log, fields_of
from .execution import Execution
from .outbox import FENCED, SettleResult

logger: Log = Log("aiospinach")

STOPPED = "the workers stopped while the job ran"


class Run(Execution):
    """A job whose lease this pool holds: its steps, and what the pool may ask of it meanwhile."""

    __slots__ = ()

    # As in Execution: here they are set as well.
    duration: float
    is_suspected: bool
    settle_result: SettleResult | None
    successor: Envelope | None

    @property
    def job(self) -> Job | None:
        """The snapshot that the body sees as ``current_job()``."""
        return getattr(self, "_job", None)

    @property
    def code(self) -> CodeType | None:
        """The code of the body, if it has one."""
        function = self._task.function if self._task is not None else None
        return getattr(inspect.unwrap(function), "__code__", None) if function is not None else None

    @property
    def fields(self) -> dict[str, str]:
        """The fields of a log record about the run."""
        return {**fields_of(self._snapshot(JobStatus.NOT_SET)), "worker": self._state.name}

    @property
    def summary(self) -> str:
        """Task, id and age of the run, for the log."""
        age = time.perf_counter() - self.body.began
        return f"{self.lease.job.task} {self.lease.job.id} ({age:.0f} s)"

    def cancel(self, reason: JobError) -> None:
        """End the body for this reason, which becomes the error of the run. The first one counts."""
        if not self.holds_slot:
            return
        if self.body.end(reason) and isinstance(reason, LeaseLost):
            job = self._snapshot(JobStatus.NOT_SET)
            logger.warning("%r lost its lease, and is cancelled: %s", job, reason, fields=self._state.fields)

    def suspect(self) -> None:
        """The lease could not be renewed in time, and another worker may get the job soon.

        An async body is ended. A body in a thread goes on. The outcome is settled as usual, and counts if the
        store still has the lease.
        """
        if self.is_suspected or not (self.holds_slot and self.body.has_begun):
            return
        self.is_suspected = True
        job = self._snapshot(JobStatus.RUNNING)
        if self.body.is_async:
            reason = Interrupted("the lease could not be renewed in time")
            self.body.end(reason, cancels_as=LeaseLost)
            logger.warning(
                "%r may lose its lease, and is cancelled: the lease could not be renewed in time",
                job,
                fields=self._state.fields,
            )
        else:
            logger.warning(
                "%r may lose its lease, and goes on: the lease could not be renewed in time",
                job,
                fields=self._state.fields,
            )

    def interrupt(self) -> None:
        """End the body because the pool stops, unless the body runs in a thread."""
        if self.body.is_async or not self.body.has_begun:
            self.cancel(Interrupted(STOPPED))

    def has_to_stop(self) -> bool:
        """Return whether the body has to end. A body in a thread ends only if it asks for that, so the reason
        of an interruption counts from then on."""
        if self.body.reason is None and (self._state.is_ending_now or self.is_suspected):
            why = "the lease could not be renewed in time" if self.is_suspected else STOPPED
            self.body.end(Interrupted(why))
        return self.body.reason is not None

    def follow_with(self, job: Envelope) -> bool:
        """Store a job of the same id when this one ends. Returns False if there is a successor already."""
        if self.successor is not None:
            return False
        self.successor = job
        return True

    def release(self) -> None:
        """Return a job that has not begun to its queue. A lost job is found again when its new lease ends."""
        if not self.is_recovery:
            self.outbox.release(self.lease)

    def on_settled(self, result: SettleResult) -> None:
        """Take the broker's answer to the settlement."""
        self.settle_result = result
        if self.is_settled:
            try:
                if result is FENCED:
                    self._log_fence(self._snapshot(JobStatus.NOT_SET))
            finally:
                self._host.ended(self)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def abandon(self) -> None:
        """Send job_finished for a body that ignores its cancellation. Its lease is left to end."""
        job = self._snapshot(JobStatus.NOT_SET)
        logger.error("%r ignores its cancellation and is left behind", job, fields=self._state.fields)
        self.duration = time.perf_counter() - self.body.began
        finished = {"job": job, "err": self.body.reason, "duration": self.duration, "result": None}
        # In a task: plain receivers run in the context of the task that calls them.
        sending = asyncio.Task(
            self._send(signals.job_finished, finished), loop=self._state.loop, context=self.context
        )
        while not sending.done():
            try:
                await asyncio.wait([sending])
            except asyncio.CancelledError:
                self._state.on_interrupt()
