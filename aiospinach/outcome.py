"""The verdict on a run: all policy of retries, crashes and cancellation, in pure functions."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import msgspec

from .backoff import exponential_backoff, jitter
from .exceptions import (
    AbortException,
    Interrupted,
    InvalidResult,
    InvalidValue,
    JobCancelled,
    RetryException,
    UnknownTask,
    WorkerLost,
)
from .job import Job, JobStatus
from .timing import LAST_MOMENT, to_milliseconds

PARK_AT_MOST = timedelta(hours=24)
"""How long a job waits for a worker that knows its task."""
CRASHES_AT_MOST = 3
"""After so many lost workers a job counts as poison."""

DEAD_REASONS = ("lost", "poison", "exhausted", "aborted", "interrupted", "unknown", "result", "unreadable")
"""Why a job is dead, in one word."""
RESCUE_JITTER = 5.0
"""Seconds of jitter for jobs that are rescued for the second time. One of them may kill its workers, and must
not take the same other jobs along until all of them count as poison."""


class Action(enum.Enum):
    """What the broker does with a job whose run has ended."""

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
    """One word: done, cancelled, lost, poison, exhausted, aborted, interrupted, unknown, result, error."""
    delay: float = 0.0
    """Seconds from now until the job may start again, for RETRY."""
    pauses_task: bool = False
    """The body asked for a pause of its task, for ``delay`` seconds."""


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

    Pure: the same arguments give the same verdict, and nothing else happens. Raises the errors of
    ``backoff``, and InvalidValue if ``backoff`` returns no duration. ``has_begun`` is False if the body of
    the job was never called: such a job may run again even if it starts at most once.
    """
    if error is None:
        return SUCCESS
    if isinstance(error, JobCancelled):
        return CANCELLED
    if isinstance(error, InvalidResult):  # the body has run: another run would repeat its effects
        return _failed("result")
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
    failed = "exhausted" if job.retries >= job.max_retries else "aborted" if _asks_to_abort(error) else None
    pauses = any(retry.pause for retry in _retries_in(error))
    if failed is not None and not pauses:
        return _failed(failed)
    delay = _delay(job, error, now, backoff)
    if failed is not None:  # the next job would meet the same fault
        return Outcome(Action.FAIL, JobStatus.FAILED, failed, delay, pauses)
    return Outcome(Action.RETRY, JobStatus.WAITING, "error", delay, pauses)


def is_parked_too_long(since: int, now: int) -> bool:
    """A job parked at ``since`` (ms) has waited too long by ``now`` (ms) for a worker that knows its task."""
    return now - since >= PARK_AT_MOST / timedelta(milliseconds=1)


def _judge_unknown(job: Job, now: int) -> Outcome:
    if job.parked_at is not None and is_parked_too_long(to_milliseconds(job.parked_at, what="now"), now):
        return _failed("unknown")
    return Outcome(Action.PARK, JobStatus.WAITING, "unknown")


def _delay(job: Job, error: BaseException, now: int, backoff: Backoff | None) -> float:
    if isinstance(error, WorkerLost):
        # The job has already waited until its lease ended.
        return jitter(RESCUE_JITTER, job.id) if job.crashes > 1 else 0.0
    chosen = [_until(retry.at, now) for retry in _retries_in(error) if retry.at is not None]
    if chosen:
        return max(chosen)
    attempt = job.retries + 1
    if backoff is None:
        return exponential_backoff(attempt, job.id)
    return _until(backoff(attempt), now)


def is_planned(error: BaseException) -> bool:
    """The body asked for another try, or for none: it foresaw the error."""
    return _asks_to_abort(error) or any(True for _ in _retries_in(error))


def _asks_to_abort(error: BaseException) -> bool:
    """It is an AbortException, or one is among the errors of a task group."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_asks_to_abort, error.exceptions))
    return isinstance(error, AbortException)


def _retries_in(error: BaseException) -> Iterator[RetryException]:
    """The error itself if it is a RetryException, or those among the errors of a task group."""
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
