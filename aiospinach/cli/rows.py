"""The shapes of ``--json``: structs of msgspec, whose fields are a promise."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from aiospinach import DeadJob, Explanation, Job, Page, Progress, QueueCounts
from aiospinach.views.phrases import status_name


class QueueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A queue, in the list of ``aiospinach counts``."""

    queue: str
    ready: int
    running: int
    waiting: int
    dead: int
    parked: int
    oldest: float | None
    """For how many seconds the first job in line has been due."""
    workers: int
    paused: bool
    paused_tasks: Sequence[str]

    @staticmethod
    def of(queue: str, counts: QueueCounts) -> QueueRow:
        """Return the row of a queue."""
        return QueueRow(queue=queue, **msgspec.structs.asdict(counts))


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job, without its arguments and headers. Moments are in UTC."""

    id: str
    task: str
    """Empty if the job cannot be read."""
    queue: str
    status: str
    """queued, waiting, running or failed."""
    at: datetime
    """When it may start: the scheduled moment, or that of the next try."""
    created_at: datetime
    retries: int
    max_retries: int
    crashes: int
    key: str | None
    worker: str | None
    started_at: datetime | None
    parked_at: datetime | None
    error: str | None
    """The class of the last error."""
    progress: Progress | None
    """How far a running job has come, as its body said last."""

    @staticmethod
    def of(job: Job) -> JobRow:
        """Return the row of a job."""
        same = ("id", "queue", "at", "created_at", "retries", "max_retries", "crashes", "key", "worker")
        fields = {
            name: getattr(job, name) for name in (*same, "started_at", "parked_at", "error", "progress")
        }
        return JobRow(task=job.task_name, status=status_name(job.status), **fields)


class JobsPage(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``aiospinach jobs``."""

    jobs: Sequence[JobRow]
    cursor: str | None
    """For ``--after`` of the next page; null if this is the last one."""
    is_truncated: bool
    """The page has looked at 10,000 jobs and found fewer than ``--limit``."""

    @staticmethod
    def of(page: Page) -> JobsPage:
        """Return the answer with a page of jobs."""
        return JobsPage(
            jobs=[JobRow.of(job) for job in page.jobs], cursor=page.cursor, is_truncated=page.is_truncated
        )


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job is dead."""

    died_at: datetime
    reason: str
    error: str
    message: str
    traceback: str

    @staticmethod
    def of(dead: DeadJob) -> Death:
        """Return why this job is dead."""
        return Death(
            died_at=dead.died_at,
            reason=dead.reason,
            error=dead.error,
            message=dead.message,
            traceback=dead.traceback,
        )


class JobReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``aiospinach job``."""

    id: str
    verdict: str
    """Why it does not run, or what it does: a value of ``aiospinach.Verdict``."""
    sentence: str
    job: JobRow | None
    """null if no such job is stored."""
    ahead: int | None
    until: datetime | None
    workers: int | None
    stack: Sequence[str] | None
    """With ``--stack``: the frames of the running body, the outermost first."""
    death: Death | None
    """null if the job is not dead."""
    arguments: Sequence[str] | None
    """With ``--arguments``: each argument, as Python shows it. null without it, and for an unknown task."""

    @staticmethod
    def of(
        job_id: str, explanation: Explanation, death: Death | None, arguments: Sequence[str] | None
    ) -> JobReport:
        """Return the answer about one job."""
        job = explanation.job
        return JobReport(
            id=job_id,
            verdict=explanation.verdict.value,
            sentence=explanation.sentence,
            job=None if job is None else JobRow.of(job),
            ahead=explanation.ahead,
            until=explanation.until,
            workers=explanation.workers,
            stack=explanation.stack,
            death=death,
            arguments=arguments,
        )


class PingReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``aiospinach ping``."""

    server: str
    version: str
    namespace: str
    round_trip_ms: float
    clock_difference_ms: float
    """By how much the clock of the store is ahead of the clock of this machine."""
