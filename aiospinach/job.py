"""A snapshot of a job, the states of jobs, and the job that the current code runs in."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic

import msgspec

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    R_co = TypeVar("R_co", covariant=True, default=Any)
else:  # defaults of type variables are new in Python 3.13
    from typing import TypeVar

    R_co = TypeVar("R_co", covariant=True)


class JobStatus(enum.Enum):
    """Where a job is.

        NOT_SET ──schedule──▶ QUEUED ──leased by a worker──▶ RUNNING ──▶ SUCCEEDED
           │                  ▲    ▲                            │ ├────▶ FAILED
           └──schedule_at──▶ WAITING └──────── released ────────┤ └────▶ CANCELLED
                              ▲                                 │
                              └──────────── retry ──────────────┘

    - NOT_SET: unknown to this snapshot: the job was a duplicate and nothing was stored, another worker
      holds it, or no such job lives.
    - WAITING: stored, and queued when its time comes: it was scheduled for later, or for another try; or it
      is parked until there is a worker that knows its task.
    - QUEUED: stored, and the next free worker of its queue takes it.
    - RUNNING: a worker holds its lease.
    - SUCCEEDED, FAILED, CANCELLED: it has ended so for ever.

    A waiting or queued job becomes CANCELLED through ``engine.cancel``. A job released by workers that
    stopped goes back to QUEUED without using a retry.
    """

    NOT_SET = "not_set"
    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Progress(msgspec.Struct, frozen=True):
    """How far a running job has come, as its body said last."""

    current: int | float
    total: int | float | None
    """None if the body does not know it."""
    note: str
    at: datetime
    """When the store learned it, in UTC."""


class Job(msgspec.Struct, Generic[R_co], frozen=True, kw_only=True, eq=False, repr_omit_defaults=True):
    """One call of a task: an immutable snapshot, true when it was made.

    (namespace, queue, id) identify a job: two snapshots of the same job are equal. The repr shows neither
    arguments nor headers. For type checkers, ``Job[R]`` is a job whose body returns an R.
    """

    id: str
    """Unique within its namespace and queue."""
    task_name: str
    queue: str
    namespace: str
    at: datetime
    """When it may start, in UTC: the scheduled moment, or that of the next try."""
    status: JobStatus
    created_at: datetime
    """When it was scheduled, in UTC. Retries and a requeue keep it."""
    retries: int = 0
    """How many tries have failed and been followed by another."""
    max_retries: int = 0
    """0: it starts at most once. More: it is tried again after errors and lost workers, so often at most."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    headers: Mapping[str, str] = {}
    """Text that travels with the job and its retries: ``Engine.carry`` fills it from the calling context."""
    key: str | None = None
    """A label that ``options(key=)`` gave the job, such as the tenant or the order that it is for."""
    crashes: int = 0
    """How many workers disappeared while the job ran on them."""
    parked_at: datetime | None = None
    """Since when it has waited for a worker that knows its task, in UTC; None if it does not."""
    started_at: datetime | None = None
    """When a worker took the job, in UTC. ``Engine.job`` and other listings fill it and ``worker`` in, for
    running jobs."""
    worker: str | None = None
    """The name of the worker that runs the job."""
    progress: Progress | None = None
    """How far it has come, if its body has called ``progress()``. ``Engine.job`` and other listings fill it
    in, for running jobs, and so does ``job_progress``."""
    error: str | None = None
    """The class of the last error, with its module, of a job that was tried again or is dead; else None."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return self._identity() == other._identity()

    def __ne__(self, other: object) -> bool:  # msgspec's own would compare by identity
        return not self == other

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        tries = f" retry={self.retries}/{self.max_retries}" if self.max_retries else ""
        return (
            f"<Job {self.task_name} id={self.id} queue={self.queue} {self.status.name}{tries}"
            f" namespace={self.namespace}>"
        )

    def _identity(self) -> tuple[str, str, str]:
        return self.namespace, self.queue, self.id


running_job: ContextVar[Job | None] = ContextVar("aiospinach_running_job", default=None)


def current_job() -> Job | None:
    """The job that this code runs in, or None outside of jobs.

    It works in the body of a job, in the thread of a plain function, in asyncio tasks that the body starts,
    and in the receivers of the job's signals.
    """
    return running_job.get()
