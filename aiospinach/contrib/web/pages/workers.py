"""The workers that live, and the jobs that they run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from aiospinach import Job, JobStatus, WorkerInfo

from ..rendering import render
from ..site import Visit
from .slices import Slice, slice_of

ROWS = 30
JOBS = 100
"""How many running jobs are read."""
JOBS_OF_ONE = 3


class WorkerRow(msgspec.Struct, frozen=True):
    """A worker, and some jobs that it runs."""

    info: WorkerInfo
    jobs: Sequence[Job]


class WorkersPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some workers."""

    part: Slice[WorkerInfo]
    rows: Sequence[WorkerRow]
    busy: int
    slots: int


async def workers_page(visit: Visit) -> Response:
    workers = await visit.engine.workers()
    running = await visit.engine.page(status=JobStatus.RUNNING, limit=JOBS)
    by_worker: defaultdict[str, list[Job]] = defaultdict(list)
    for job in running.jobs:
        by_worker[job.worker or ""].append(job)
    part = slice_of(workers, visit.query("from"), ROWS)
    page = WorkersPage(
        part=part,
        rows=[WorkerRow(info, by_worker[info.name][:JOBS_OF_ONE]) for info in part.rows],
        busy=sum(worker.running for worker in workers),
        slots=sum(worker.number for worker in workers),
    )
    return render(visit, "workers.html", page, scope={})
