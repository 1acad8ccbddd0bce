"""Every exception of aiospinach, in one tree.

AiospinachError
├── InvalidValue (ValueError)        a name, number, time or type that is not taken here
│   ├── InvalidArguments             arguments that do not fit the task, or would not arrive equal
│   ├── UnsupportedType              a type hint whose values cannot make the trip
│   ├── DuplicateTask                a task name registered twice
│   └── BatchTooLarge                more jobs or bytes than one batch may hold
├── UnknownTask (LookupError)        no task of that name is attached
├── UnknownQueue (LookupError)       no attached task uses that queue
├── NotAttached (RuntimeError)       a task without an engine, or with more than one
├── AlreadyRunning (RuntimeError)    the engine's workers run already
├── BrokerError                      the store refused, or gave no answer
│   ├── BrokerUnavailable            it cannot be reached: nothing was stored
│   ├── EnqueueUncertain             it did not say whether it stored the jobs
│   └── BatchPartlyStored            some queues of a batch were stored, others were not
├── RetryException                   raised by a job: try again, at this moment
├── AbortException                   raised by a job: never try again
└── JobError                         what became of a run, given to receivers as ``err``
    ├── JobTimeout (TimeoutError)    the body took longer than its task allows
    ├── JobCancelled                 somebody called ``engine.cancel``
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
    """A name, number, time or type given to aiospinach is not one that it takes there."""


class InvalidArguments(InvalidValue):
    """A job's arguments do not fit its task, or would not arrive equal to what was given.

    The message names the parameter and the type of the value, never the value.
    """


class UnsupportedType(InvalidValue):
    """A parameter's type hint describes values that cannot be stored and read back."""


class DuplicateTask(InvalidValue):
    """Two tasks of one engine, or of one registry, have the same name."""


class BatchTooLarge(InvalidValue):
    """A batch holds more jobs, or more bytes of arguments, than one round trip may carry."""


class UnknownTask(AiospinachError, LookupError):
    """No task of that name is attached to the engine."""


class UnknownQueue(AiospinachError, LookupError):
    """No task that is attached to the engine uses that queue."""


class NotAttached(AiospinachError, RuntimeError):
    """A task was asked to schedule itself without exactly one engine to do it."""


class AlreadyRunning(AiospinachError, RuntimeError):
    """Workers were started while the engine's workers run."""


class BrokerError(AiospinachError):
    """The store refused a call, or did not answer it."""


class BrokerUnavailable(BrokerError):
    """The store could not be reached: the call was not carried out and may be repeated."""


class EnqueueUncertain(BrokerError):
    """The store did not say whether jobs were stored: ``await error.retry()`` asks again."""

    def __init__(self, message: str, *, retry: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(message)
        self._retry = retry

    async def retry(self) -> Any:
        """Repeat the call that was not answered.

        Within 10 minutes that adds nothing which was stored already. Returns what the call would have
        returned, and raises what it may raise; being cancelled, it abandons the answer again.
        """
        return await self._retry()


class BatchPartlyStored(BrokerError):
    """Storing a batch over several queues ended after some of them: ``stored`` holds those jobs.

    ``__cause__`` is the error that ended it.
    """

    def __init__(self, message: str, *, stored: Sequence[Job]) -> None:
        super().__init__(message)
        self.stored: tuple[Job, ...] = tuple(stored)


class RetryException(AiospinachError):
    """Raise it in a job to have it tried again, if it has tries left.

    ``at`` chooses the moment: a datetime (naive means UTC), or a timedelta from now. Without it the
    task's backoff does. Among the errors of an ExceptionGroup it means the same, and the latest moment
    counts.
    """

    def __init__(self, message: str = "", at: datetime | timedelta | None = None) -> None:
        if isinstance(message, (datetime, timedelta)):
            raise InvalidValue("RetryException takes a message first: RetryException('why', at=...)")
        if at is not None and not isinstance(at, (datetime, timedelta)):
            raise InvalidValue(
                f"RetryException: at= takes a datetime or a timedelta, not {type(at).__name__}"
            )
        super().__init__(message)
        self.at: datetime | timedelta | None = at


class AbortException(AiospinachError):
    """Raise it in a job that no further try can help: it fails at once.

    Among the errors of an ExceptionGroup it means the same.
    """


class JobError(AiospinachError):
    """What became of a run, when it was not the body that decided."""


class JobTimeout(JobError, TimeoutError):
    """The body ran longer than the ``timeout`` of its task, and was cancelled."""


class JobCancelled(JobError):
    """The job was cancelled through ``engine.cancel``."""


class Interrupted(JobError):
    """The body was ended, or never began, because the workers stopped or could not renew the job's lease in
    time. The job goes back to its queue; if its body had begun and it has no retries, it has failed."""


class LeaseLost(JobError):
    """The store no longer counts this run as the job's: what it returned was not recorded."""


class WorkerLost(JobError):
    """The worker that ran the job disappeared without saying how it ended."""
