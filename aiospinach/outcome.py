"""What becomes of a job after a run: all policy of retries, crashes and cancellation."""

from __future__ import annotations

import enum
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import msgspec

from .exceptions import (
    AbortException,
    Interrupted,
    InvalidValue,
    JobCancelled,
    RetryException,
    UnknownTask,
    WorkerLost,
)
from .job import Job, JobStatus
from .redaction import REDACT_NOTHING, Redaction
from .timing import LAST_MOMENT, exponential_backoff, jitter, to_milliseconds

PARK_AT_MOST = timedelta(hours=24)
"""How long a job waits for a worker that knows its task."""
CRASHES_AT_MOST = 3
"""A job during which so many workers disappeared is not given to another."""

RESCUE_JITTER = 5.0
"""Seconds over which jobs are jitter that lost their worker together, but for the first time: one of them
may be to blame, and must not take the same others along until they all count as poison."""

MESSAGE_LIMIT = 1024
TRACEBACK_LIMIT = 8 * 1024


class Action(enum.Enum):
    """What the broker does with a job that a worker gives back."""

    DONE = "done"
    RETRY = "retry"
    FAIL = "fail"
    RELEASE = "release"
    PARK = "park"
    CANCELLED = "cancelled"

    @property
    def puts_back(self) -> bool:
        """The job is to run again."""
        return self in (Action.RETRY, Action.RELEASE, Action.PARK)


class Outcome(msgspec.Struct, frozen=True):
    """The verdict on one run."""

    action: Action
    status: JobStatus
    """Where the job is once the broker has stored the verdict."""
    reason: str
    """One word: done, cancelled, lost, poison, exhausted, aborted, interrupted, unknown, error."""
    delay: float = 0.0
    """Seconds from now until the job may start again, for RETRY."""


Backoff = Callable[[int], "float | timedelta"]
"""Seconds before retry number n, the first being 1."""

SUCCESS = Outcome(Action.DONE, JobStatus.SUCCEEDED, "done")
CANCELLED = Outcome(Action.CANCELLED, JobStatus.CANCELLED, "cancelled")
RELEASED = Outcome(Action.RELEASE, JobStatus.QUEUED, "interrupted")


def judge(
    job: Job,
    error: BaseException | None,
    now: int,
    backoff: Backoff | None = None,
    *,
    has_begun: bool = True,
) -> Outcome:
    """The verdict on a run of ``job`` that ended with ``error`` at ``now`` (ms of the broker's clock).

    Pure: the same arguments give the same verdict, and nothing else happens. ``backoff`` may raise what
    it likes, and InvalidValue says that it gave no duration. ``has_begun`` is False if the body of the
    job was never called: then it may run again although it runs at most once.
    """
    if error is None:
        return SUCCESS
    if isinstance(error, JobCancelled):
        return CANCELLED
    if isinstance(error, UnknownTask):
        return _judge_unknown(job, now)
    if isinstance(error, Interrupted):
        if not has_begun:  # guard: never began
            return RELEASED
        return RELEASED if job.max_retries else _failed("interrupted")
    if isinstance(error, WorkerLost):
        if not job.max_retries:
            return _failed("lost")
        if job.crashes >= CRASHES_AT_MOST:
            return _failed("poison")
    if job.retries >= job.max_retries:
        return _failed("exhausted")
    if _asks_to_abort(error):
        return _failed("aborted")
    return Outcome(Action.RETRY, JobStatus.WAITING, "error", _delay(job, error, now, backoff))


def is_parked_too_long(since: int, now: int) -> bool:
    """A job that has been parked since this moment waits for no worker any more that knows its task."""
    return now - since >= PARK_AT_MOST / timedelta(milliseconds=1)


def _judge_unknown(job: Job, now: int) -> Outcome:
    if job.parked_at is not None and is_parked_too_long(to_milliseconds(job.parked_at, what="now"), now):
        return _failed("unknown")
    return Outcome(Action.PARK, JobStatus.WAITING, "unknown")


def _delay(job: Job, error: BaseException, now: int, backoff: Backoff | None) -> float:
    if isinstance(error, WorkerLost):
        # It has waited for its lease to run out already.
        return jitter(RESCUE_JITTER, job.id) if job.crashes > 1 else 0.0
    chosen = [_until(retry.at, now) for retry in _retries_in(error) if retry.at is not None]
    if chosen:
        return max(chosen)
    attempt = job.retries + 1
    if backoff is None:
        return exponential_backoff(attempt, job.id)
    return _until(backoff(attempt), now)


def is_planned(error: BaseException) -> bool:
    """The body asked for another try, or for none: nothing has gone wrong that was not foreseen."""
    return _asks_to_abort(error) or any(True for _ in _retries_in(error))


def _asks_to_abort(error: BaseException) -> bool:
    """It is an AbortException, or one is among the errors of a task group."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_asks_to_abort, error.exceptions))
    return isinstance(error, AbortException)


def _retries_in(error: BaseException) -> Iterator[RetryException]:
    """The RetryException that it is, or those among the errors of a task group."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _retries_in(part)
    elif isinstance(error, RetryException):
        yield error


def _until(at: datetime | timedelta | float, now: int) -> float:
    if isinstance(at, datetime):
        delay = (to_milliseconds(at, what="RetryException(at=)") - now) / 1000
    elif isinstance(at, timedelta):
        delay = at.total_seconds()
    elif isinstance(at, (int, float)) and at == at:
        delay = at
    else:
        raise InvalidValue(f"a backoff must return seconds or a timedelta, not {type(at).__name__}")
    return float(min(max(delay, 0.0), (LAST_MOMENT - now) / 1000 - 1))


def _failed(reason: str) -> Outcome:
    return Outcome(Action.FAIL, JobStatus.FAILED, reason)


def safe_exception(error: BaseException) -> BaseException:
    """The error that a user's code raised; or, if it raises when it is merely looked at, as logging and
    ``isinstance`` do, another in its place."""
    try:
        bool(error)
        isinstance(error, Outcome)
    except BaseException:
        stand_in = RuntimeError(f"a {type(error).__name__} was raised, which cannot be looked at")
        return stand_in.with_traceback(error.__traceback__)
    return error


def describe(error: BaseException, reason: str, redaction: Redaction = REDACT_NOTHING) -> bytes:
    """JSON of why a job died: ``reason``, the ``error``'s class, its ``message`` and ``traceback``.

    The last two are cut to 1 KB and 8 KB, or empty if they are left out. An exception that cannot be printed
    is survived.
    """
    try:
        message = "" if redaction.messages else _printable(str(error))
    except BaseException:
        message = "<its __str__ raises>"
    try:
        text = "" if redaction.tracebacks else "".join(traceback.format_exception(redaction.shown(error)))
    except BaseException:
        text = "<it cannot be printed>"
    return msgspec.json.encode(
        {
            "reason": reason,
            "error": _printable(f"{type(error).__module__}.{type(error).__qualname__}"),
            "message": message[:MESSAGE_LIMIT],
            "traceback": _printable(text[-TRACEBACK_LIMIT:]),
        }
    )


def _printable(text: str) -> str:
    # The method of str itself: an exception's __str__ may return a subclass with one of its own.
    return str.encode(text, "utf-8", "backslashreplace").decode()
