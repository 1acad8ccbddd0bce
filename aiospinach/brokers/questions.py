"""Questions about a queue, orders to change its jobs, and the answers to both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from ..job import JobStatus
from .records import DeadRecord, Envelope
from .reports import WorkerReport

T = TypeVar("T")


class Counts(msgspec.Struct, frozen=True):
    """How many jobs of a queue are in which state."""

    ready: int
    """Jobs that are queued, held back in a lane, or waiting and due."""
    running: int
    waiting: int
    """Jobs that are not due yet."""
    dead: int
    parked: int = 0
    """Jobs that wait for a worker that knows their task, or for the release that wrote them."""
    paused: bool = False
    """The whole queue is paused."""
    paused_tasks: Sequence[str] = ()
    """Tasks of the queue that are paused, by name."""


class WorkerSeen(msgspec.Struct, frozen=True):
    """A worker that looked at the queue within the last three leases."""

    report: WorkerReport
    at: int
    """When it looked last, in milliseconds since 1970."""

    @property
    def name(self) -> str:
        """The name of the worker."""
        return self.report.name

    @property
    def level(self) -> int:
        """A worker of an older release may have a lower one."""
        return self.report.level


class Question(msgspec.Struct, Generic[T], frozen=True):
    """A question about a queue, with an answer of type T."""


class LookCounts(Question[Counts], frozen=True):
    """How many jobs are in which state?"""


class LookOldest(Question["int | None"], frozen=True):
    """Since when is the first job in line due? In milliseconds since 1970; None if none is.

    Jobs that wait for their task's limit are in no line. Of many cancelled jobs at the head, a hundred are
    looked through.
    """


class LookDead(Question[Sequence[DeadRecord]], frozen=True):
    """Which jobs are dead? The latest come first."""

    offset: int = 0
    limit: int = 100


class LookJob(Question["Envelope | None"], frozen=True):
    """Which live job has this id? None if there is none, or it cannot be read."""

    job_id: str


class LookWorkers(Question[Sequence[WorkerSeen]], frozen=True):
    """Which workers have looked within three leases, and have not left? A thousand at most."""


class Act(msgspec.Struct, Generic[T], frozen=True):
    """An order to change a queue or its jobs, with a result of type T."""


class Cancel(Act["SteerResult"], frozen=True):
    """Cancel a job. A running job is marked, and its worker learns of it by the next renewal."""

    job_id: str


class Requeue(Act["SteerResult"], frozen=True):
    """Queue a dead job again, as if it had never run."""

    job_id: str


class Discard(Act["SteerResult"], frozen=True):
    """Delete a dead job."""

    job_id: str


class Reschedule(Act["SteerResult"], frozen=True):
    """Move a job that waits or is queued to another moment. A running or dead job stays as it is."""

    job_id: str
    at: int
    """In milliseconds since 1970; 0 is now."""


class SteerResult(msgspec.Struct, frozen=True):
    """The result of an act."""

    status: JobStatus
    """The status of the job before the act; NOT_SET if there was no such job, and nothing was done."""
    job: Envelope | None = None
    """The cancelled job, if it is known."""
    is_bare: bool = False
    """The dead job was kept without its arguments, and cannot be requeued."""
