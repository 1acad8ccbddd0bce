"""The jobs of a queue, by their status, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from starlette.responses import Response

from aiospinach import InvalidValue, Job, JobStatus, Pause, QueueCounts

from ..access import Access
from ..rendering import render
from ..site import Visit

ROWS = 40
STATUSES = {
    "queued": JobStatus.QUEUED,
    "running": JobStatus.RUNNING,
    "waiting": JobStatus.WAITING,
    "dead": JobStatus.FAILED,
}
ACTIONS: Mapping[str, Sequence[tuple[str, str, Access]]] = {
    "queued": (("cancel", "Cancel", Access.CANCEL),),
    "running": (("cancel", "Cancel", Access.CANCEL),),
    "waiting": (("run-now", "Run now", Access.RUN_NOW), ("cancel", "Cancel", Access.CANCEL)),
    "dead": (("requeue", "Requeue", Access.REQUEUE), ("discard", "Discard", Access.DISCARD)),
}
"""What can be done with selected jobs of a status: the path, the label and the right to do it."""
EMPTY = {
    "queued": "No job waits for a worker. New jobs show up here when they are due.",
    "running": "No job runs. If jobs are queued, look at the workers of this queue.",
    "waiting": "No job waits for its time. Jobs that are scheduled for later, and retries, show up here.",
    "dead": "No job is dead. Jobs that have failed for ever show up here, and can be queued again.",
}


class Tab(msgspec.Struct, frozen=True):
    """A status, and how many jobs have it."""

    status: str
    count: int


class QueuePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some jobs of a queue."""

    name: str
    status: str
    tabs: Sequence[Tab]
    counts: QueueCounts
    pause: Pause | None
    paused_tasks: Sequence[Pause]
    jobs: Sequence[Job]
    cursor: str | None
    is_first: bool
    is_truncated: bool
    task: str
    key: str
    error: str
    actions: Sequence[tuple[str, str]]
    """The paths and labels of what the visitor may do with selected jobs."""
    empty: str

    @property
    def is_filtered(self) -> bool:
        return bool(self.task or self.key or self.error)


async def queue_page(visit: Visit) -> Response:
    name, status = visit.query("name"), visit.query("status") or "queued"
    if status not in STATUSES:
        raise InvalidValue(f"status= in the URL takes one of {', '.join(STATUSES)}")
    filters = {each: visit.query(each) for each in ("task", "key", "error")}
    seen = (await visit.engine.overview(queue=name)).queues[name]
    counts = seen.counts
    after = visit.query("after") or None
    jobs = await visit.engine.page(
        queue=name,
        status=STATUSES[status],
        after=after,
        limit=ROWS,
        **{each: value or None for each, value in filters.items()},
    )
    page = QueuePage(
        name=name,
        status=status,
        tabs=[
            Tab("queued", counts.ready),
            Tab("running", counts.running),
            Tab("waiting", counts.waiting + counts.parked),
            Tab("dead", counts.dead),
        ],
        counts=counts,
        pause=next((pause for pause in seen.pauses if pause.task is None), None),
        paused_tasks=[pause for pause in seen.pauses if pause.task is not None],
        jobs=jobs.jobs,
        cursor=jobs.cursor,
        is_first=after is None,
        is_truncated=jobs.is_truncated,
        actions=[(path, label) for path, label, access in ACTIONS[status] if visit.may(access)],
        empty=EMPTY[status],
        **filters,
    )
    return render(visit, "queue.html", page, scope={"queue": name})
