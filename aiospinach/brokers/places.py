"""Where stored jobs are, and questions about single jobs and pages of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import msgspec

from ..job import JobStatus, Progress
from .pauses import StoredPause
from .questions import Question
from .records import DeadRecord, Envelope
from .reports import WorkerRow
from .results import EndRecord

LOOKED_AT_MOST = 10_000
"""How many jobs ahead of a job are counted."""


class Place(enum.Enum):
    """A part of a queue. Each job is in one of them."""

    READY = "ready"
    """The line."""
    LANES = "lanes"
    """Held back by the limit of its task."""
    FUTURE = "future"
    """Not due, or not queued yet."""
    PARKED = "parked"
    LEASES = "leases"
    DEAD = "dead"

    @property
    def status(self) -> JobStatus:
        """The status of the jobs that are there."""
        return _STATUS[self]


_STATUS = {
    Place.READY: JobStatus.QUEUED,
    Place.LANES: JobStatus.QUEUED,
    Place.FUTURE: JobStatus.WAITING,
    Place.PARKED: JobStatus.WAITING,
    Place.LEASES: JobStatus.RUNNING,
    Place.DEAD: JobStatus.FAILED,
}


class LeaseSeen(msgspec.Struct, frozen=True):
    """The lease of a running job."""

    ends: int
    """When it ends, unless it is renewed, in milliseconds since 1970."""
    started: int = 0
    """When it was made; 0 if the worker that ran the job was lost, and another judges the job."""
    worker: str = ""
    """The name of the worker; empty if it has not reported."""
    progress: Progress | None = None
    """How far the job has come, if its body has told."""


class JobSeen(msgspec.Struct, frozen=True):
    """A stored job, and where it is."""

    job: Envelope
    """Its task is empty if it cannot be read."""
    place: Place
    after: str = ""
    """The position behind the job; empty if it is not of a page."""
    lease: LeaseSeen | None = None
    """Of a job in LEASES."""
    dead: DeadRecord | None = None
    """Of a job in DEAD."""


class PlacePage(msgspec.Struct, frozen=True):
    """Some of the jobs in one place, in their order."""

    jobs: Sequence[JobSeen]
    looks: int
    """How many jobs were looked at."""
    position: str | None
    """Where the next page begins; None after the last job."""


class LookPlace(Question[PlacePage], frozen=True):
    """Which jobs are in this place, after a position?

    A page that is full of large jobs ends early. Raises ValueError if no broker has made the position.
    """

    place: Place
    position: str = ""
    limit: int = 100
    """How many jobs to return, at most."""
    looks: int = 100
    """How many jobs to look at, at most. More than a thousand would keep the store busy."""
    task: str = ""
    """Return only jobs of this task, if it is not empty."""


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of one job, and of what it waits for."""

    now: int
    seen: JobSeen | None = None
    """None if no such job lives or is dead."""
    is_cancelled: bool = False
    """The job runs, and was cancelled."""
    ahead: int | None = None
    """How many jobs are ahead of a queued one, in the line or in its lane. None: more than LOOKED_AT_MOST."""
    limit: int = 0
    """How many jobs of the task may run; 0: any number."""
    used: int = 0
    """How many jobs of the task run, if the task has a limit."""
    holders: Mapping[str, int] = {}
    """How many of these jobs run on which worker. The name is empty for workers that have not reported."""
    workers: int = 0
    """How many workers have looked at the queue within three leases."""
    is_known: bool = False
    """One of these workers knows the task."""
    pause: StoredPause | None = None
    """The pause of the queue, or else of the task."""
    end: EndRecord | None = None
    """The stored end of a job that keeps its result and lives no longer. No broker fills it in."""
    owner: str = ""
    """The name of the worker that registered the task last, within two weeks; else empty."""


class LookJobFacts(Question[JobFacts], frozen=True):
    """Where is this job, and why does it not run?"""

    job_id: str
    is_brief: bool = False
    """Only ``now`` and ``seen`` are wanted."""


class LookRows(Question[Sequence[WorkerRow]], frozen=True):
    """Which jobs ended in the minutes from this one on, in minutes since 1970? One row for each worker and
    minute, in no order."""

    since: int
