"""Every exception of aiospinach, in one tree.

AiospinachError
├── InvalidValue (ValueError)        a name, number, time or type that is not accepted
│   ├── InvalidArguments             arguments that do not fit the task, or would not arrive equal
│   ├── InvalidResult                a result that does not fit its task, or would not arrive equal
│   ├── UnsupportedType              a type hint whose values cannot be stored and read back
│   ├── DuplicateTask                a task name registered twice
│   └── BatchTooLarge                more jobs or bytes than one batch may hold
├── UnknownTask (LookupError)        no task of that name is attached
├── UnknownQueue (LookupError)       no attached task uses that queue
├── NotAttached (RuntimeError)       a task without an engine, or with more than one
├── AlreadyRunning (RuntimeError)    the engine's workers run already
├── WouldBlock (RuntimeError)        a blocking call where an event loop runs
├── BrokerError                      the store refused a call, or did not answer it
│   ├── BrokerUnavailable            it cannot be reached: nothing was stored
│   ├── EnqueueUncertain             the store may or may not have stored the jobs
│   └── BatchPartlyStored            some queues of a batch were stored, others were not
├── NoResult                         a job has no result to return
│   ├── JobFailed                    it failed for ever
│   │   └── JobLost                  its worker disappeared, and it is not tried again
│   ├── ResultCancelled              it was cancelled
│   └── UnknownJob (LookupError)     nobody knows the job
│       └── ResultExpired            its result is not kept any more
├── EventsLost                       the next events of a stream are not kept any more
├── RetryException                   raised by a job: try again, at this moment
├── AbortException                   raised by a job: never try again
└── JobError                         why a run ended, if not by its own code; receivers get it as ``err``
    ├── JobTimeout (TimeoutError)    the body took longer than its task allows
    ├── JobCancelled                 ``engine.cancel`` was called for the job
    ├── Interrupted                  the workers shut down, or could not renew the lease in time
    ├── LeaseLost                    the store gave the job to another worker
    └── WorkerLost                   the worker that ran the job disappeared
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .job import Job


class AiospinachError(Exception):
    """Root of every exception that aiospinach raises."""


class InvalidValue(AiospinachError, ValueError):
    """A name, number, time or type is not one that aiospinach accepts there."""


class InvalidArguments(InvalidValue):
    """The arguments of a job do not fit its task, or would not arrive equal.

    The message names the parameter and the type of the value, never the value.
    """


class InvalidResult(InvalidValue):
    """The result of a job does not fit the return annotation of its task, would not arrive equal, or is
    larger than 256 KB.

    The message names the type of the result, never the value. Such a job is dead: its body has run, and
    another run would repeat its effects.
    """


class UnsupportedType(InvalidValue):
    """A type hint of a parameter or of a kept result describes values that cannot be stored and read back."""


class DuplicateTask(InvalidValue):
    """Two tasks of one engine, or of one registry, have the same name."""


class BatchTooLarge(InvalidValue):
    """A batch holds more jobs, or more bytes of arguments, than one round trip may carry."""


class UnknownTask(AiospinachError, LookupError):
    """No task of that name is attached to the engine."""


class UnknownQueue(AiospinachError, LookupError):
    """No task that is attached to the engine uses that queue."""


class NotAttached(AiospinachError, RuntimeError):
    """``schedule`` of a task was called, and not exactly one engine has the task."""


class AlreadyRunning(AiospinachError, RuntimeError):
    """Workers were started while the engine's workers run."""


class WouldBlock(AiospinachError, RuntimeError):
    """A member of ``engine.blocking`` was called in a thread whose event loop runs, and would block it."""


class BrokerError(AiospinachError):
    """The store refused a call, or did not answer it."""


class BrokerUnavailable(BrokerError):
    """The store could not be reached: the call was not carried out and may be repeated."""


class EnqueueUncertain(BrokerError):
    """The store did not answer whether it stored the jobs: ``await error.retry()`` asks again."""

    def __init__(self, message: str, *, retry: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(message)
        self._retry = retry

    async def retry(self) -> Any:
        """Repeat the call that was not answered.

        Within 10 minutes it stores no job twice. Returns the result of the call, and raises its errors. If
        it is cancelled, the jobs may or may not be stored, as before.
        """
        return await self._retry()


class BatchPartlyStored(BrokerError):
    """Storing a batch failed after some of its queues: ``stored`` holds the jobs of these.

    ``__cause__`` is the error of the next queue.
    """

    def __init__(self, message: str, *, stored: Sequence[Job]) -> None:
        super().__init__(message)
        self.stored: tuple[Job, ...] = tuple(stored)


class NoResult(AiospinachError):
    """A job has no result that ``Engine.result`` could return.

    In the body of another job it is an error like any other: that job is tried again, or fails.
    """


class JobFailed(NoResult):
    """The job whose result was awaited failed for ever.

    The traceback of its worker is a note of this exception, unless ``Engine(leave_out=)`` left it out.
    """

    def __init__(self, text: str, *, reason: str = "", error: str = "", message: str = "") -> None:
        super().__init__(text)
        self.reason: str = reason
        """As ``DeadJob.reason``."""
        self.error: str = error
        """The class of the last error, with its module: the class itself may be unknown in this process."""
        self.message: str = message
        """The message of the last error, at most 1,024 characters; empty if left out."""


class JobLost(JobFailed):
    """The worker of the job disappeared, and the job is not tried again: how its run ended is unknown."""


class ResultCancelled(NoResult):
    """The job whose result was awaited was cancelled."""


class UnknownJob(NoResult, LookupError):
    """Neither a job of this id, nor its result, is stored in the queues that were searched."""


class ResultExpired(UnknownJob):
    """The job was stored once, and neither it nor its result is stored any more.

    A result is kept for the ``result_ttl`` of its task.
    """


class EventsLost(AiospinachError):
    """The next events of a stream are not kept any more: ``after=error.oldest`` goes on with the oldest.

    A queue keeps as many rows of events as ``RedisBroker(events=)`` says. Events are lost as well if the
    store goes back to an earlier state, as after a failover.
    """

    def __init__(self, message: str, *, oldest: str) -> None:
        super().__init__(message)
        self.oldest: str = oldest
        """A cursor for ``Engine.events(after=)``."""


class RetryException(AiospinachError):
    """Raise it in a job to have it tried again, if it has tries left.

    ``at`` is the moment: a datetime (naive means UTC), or a timedelta from now. By default the backoff of
    the task decides. It means the same within an ExceptionGroup; of several moments the latest counts.
    ``pause=True`` pauses the whole task until that moment, also if the job has no tries left. The job then
    keeps its turn: it is the first of its task to run again.
    """

    def __init__(
        self, message: str = "", at: datetime | timedelta | None = None, *, pause: bool = False
    ) -> None:
        if isinstance(message, (datetime, timedelta)):
            raise InvalidValue("RetryException takes a message first: RetryException('why', at=...)")
        if at is not None and not isinstance(at, (datetime, timedelta)):
            raise InvalidValue(
                f"RetryException: at= takes a datetime or a timedelta, not {type(at).__name__}"
            )
        if not isinstance(pause, bool):
            raise InvalidValue(f"RetryException: pause= takes True or False, not {type(pause).__name__}")
        super().__init__(message)
        self.at: datetime | timedelta | None = at
        self.pause: bool = pause


class AbortException(AiospinachError):
    """Raise it in a job to have it fail at once, however many tries it has left.

    It means the same within an ExceptionGroup.
    """


class JobError(AiospinachError):
    """Why a run ended, when the reason lies outside of the job's own code."""


class JobTimeout(JobError, TimeoutError):
    """The body ran longer than the ``timeout`` of its task, and was cancelled."""


class JobCancelled(JobError):
    """The job was cancelled through ``engine.cancel``."""


class Interrupted(JobError):
    """The body was cancelled, or never began, since the workers stopped or could not renew the lease in time.

    The job goes back to its queue. It fails instead if its body had begun and it has no retries.
    """


class LeaseLost(JobError):
    """The job no longer belongs to this run: the store gave it to another worker, or forgot it.

    The outcome of this run was not recorded.
    """


class WorkerLost(JobError):
    """The worker that ran the job disappeared, and the outcome of its run is unknown."""
