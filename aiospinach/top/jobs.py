"""The jobs of a queue in one state, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from textual.content import Content

from aiospinach import Job, JobStatus, Page, QueueCounts, QueueOverview
from aiospinach.views import age, number, printable, short_number

from .cell import BAD, CAREFUL, EMPTY, MUTED, STRONG, Cell, cell
from .filters import Filter
from .table import Column, Row, Table

TASK = Column("task", 12, 44)
ID = Column("id", 12, 40)
TRIES = Column("tries", 5, is_right=True, rank=2)
KEY = Column("key", 8, 28, rank=3)
WORKER = Column("worker", 10, 40, rank=1)
ERROR = Column("error", 10, 60, rank=1)


class Tab(NamedTuple):
    """One state of the jobs of a queue."""

    title: str
    status: JobStatus
    time_title: str
    empty: str
    """What a tab without jobs teaches."""


TABS = (
    Tab(
        "Ready", JobStatus.QUEUED, "waits", "No job is ready: the workers keep up, or nothing was scheduled."
    ),
    Tab("Running", JobStatus.RUNNING, "runs", "No job runs in this queue at this moment."),
    Tab("Waiting", JobStatus.WAITING, "due in", "No job waits for its moment, for a retry or for a worker."),
    Tab("Dead", JobStatus.FAILED, "created", "No job of this queue has failed for ever. Well done."),
)


class Jobs(NamedTuple):
    """A page of the jobs of a queue, and the queue."""

    at: datetime
    queue: QueueOverview
    page: Page
    tab: int
    filter: Filter
    number: int
    """Which page it is."""

    def is_of(self, tab: int, words: Filter, number: int) -> bool:
        """Return whether the page is that of a tab, a filter and a number."""
        return (self.tab, self.filter, self.number) == (tab, words, number)


def counts_of(counts: QueueCounts) -> list[str]:
    """Return how many jobs each tab has. Parked jobs wait as well."""
    waiting = counts.waiting + counts.parked
    return [short_number(count) for count in (counts.ready, counts.running, waiting, counts.dead)]


def filter_words(words: Filter, jobs: Jobs | None) -> Content:
    """Return which jobs are shown, and what a page leaves out; empty if it shows all jobs."""
    parts = [f"only {words}  (escape shows all)"] if any(words) else []
    if jobs is not None:
        parts += [f"page {number(jobs.number)}"] if jobs.number > 1 else []
        parts += (
            ["10,000 jobs were looked at: > goes on with the next ones"] if jobs.page.is_truncated else []
        )
    return Content.styled(printable("   ".join(parts)), MUTED)


def teaching(jobs: Jobs) -> str:
    """Return what a page without jobs teaches."""
    if jobs.filter.id:
        return (
            f"No job of this queue has the id {printable(jobs.filter.id)}: it has ended, or was never here."
        )
    if any(jobs.filter):
        return "No job here fits the filter."
    return TABS[jobs.tab].empty


def job_table(tab: Tab, jobs: Sequence[Job], now: datetime) -> Table:
    """Return a row for each job. It shows neither arguments nor messages of errors."""
    is_running = tab.status is JobStatus.RUNNING
    time = Column(tab.time_title, 7, is_right=True)
    columns = (TASK, ID, time, TRIES, KEY, *((WORKER,) if is_running else ()), ERROR)
    return Table(columns, [_row_of(job, now) for job in jobs])


def _row_of(job: Job, now: datetime) -> Row:
    return Row(
        job.id,
        (
            cell(job.task_name, STRONG) if job.task_name else Cell("unreadable", BAD),
            cell(job.id),
            _time(job, now),
            Cell(tries_of(job), CAREFUL if job.retries or job.crashes else MUTED),
            cell(job.key or ""),
            *((cell(job.worker or "?"),) if job.status is JobStatus.RUNNING else ()),
            cell(job.error or "", BAD if job.status is JobStatus.FAILED else CAREFUL),
        ),
    )


def _time(job: Job, now: datetime) -> Cell:
    if job.parked_at is not None:
        return Cell("parked", CAREFUL)
    if job.status is JobStatus.WAITING:
        left = (job.at - now).total_seconds()
        return Cell(age(left)) if left > 0 else Cell("now")
    if job.status is JobStatus.RUNNING:
        return EMPTY if job.started_at is None else Cell(age((now - job.started_at).total_seconds()))
    since = job.created_at if job.status is JobStatus.FAILED else job.at
    return Cell(age((now - since).total_seconds()))


def tries_of(job: Job) -> str:
    """Return which try of how many is the next or the last one: ``1/4``."""
    return f"{job.retries + 1}/{job.max_retries + 1}"
