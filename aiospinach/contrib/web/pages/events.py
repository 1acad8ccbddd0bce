"""The latest events: what has become of jobs, and what becomes of them now."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from aiospinach import Event, JobStatus, LatestEvents, Progress

from ..rendering import render
from ..site import Visit

ROWS = 60
RUNNING_JOBS = 100
"""Of how many running jobs the progress is read."""
BADGES = {
    "job_scheduled": ("scheduled", ""),
    "job_started": ("started", "run"),
    "job_schedule_retry": ("retry", "warn"),
    "job_failed": ("failed", "bad"),
    "job_cancelled": ("cancelled", "warn"),
    "job_finished": ("finished", "good"),
}
"""The label and the colour of each event."""


class EventsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some events, the latest first."""

    latest: LatestEvents | None
    """None if the broker keeps no events."""
    progress: Mapping[tuple[str, str], Progress]
    """How far running jobs have come, by queue and id."""
    queue: str
    task: str
    job: str
    is_first: bool

    @property
    def is_filtered(self) -> bool:
        return bool(self.queue or self.task or self.job)

    def badge(self, event: Event) -> tuple[str, str]:
        """The label and the colour of an event."""
        label, tone = BADGES.get(event.name, (event.name, ""))
        return label, "" if event.name == "job_finished" and "error" in event.data else tone

    def progress_of(self, event: Event) -> Progress | None:
        """How far the run that began with this event has come; None if it has ended or is not known."""
        return self.progress.get((event.queue, event.job_id)) if event.name == "job_started" else None


async def events_page(visit: Visit) -> Response:
    filters = {name: visit.query(name).strip() for name in ("queue", "task", "job")}
    before = visit.query("before") or None
    latest = None
    if visit.engine.keeps_events:
        wanted = {name: value or None for name, value in filters.items()}
        latest = await visit.engine.latest_events(**wanted, before=before, limit=ROWS)
    page = EventsPage(
        latest=latest,
        progress={} if latest is None else await _progress(visit, latest),
        is_first=before is None,
        **filters,
    )
    return render(visit, "events.html", page, scope=filters if before is None else None)


async def _progress(visit: Visit, latest: LatestEvents) -> Mapping[tuple[str, str], Progress]:
    """The progress of jobs that run, if the page has starts of runs."""
    queues = {event.queue for event in latest.events if event.name == "job_started"}
    found: dict[tuple[str, str], Progress] = {}
    if queues:
        queue = next(iter(queues)) if len(queues) == 1 else None
        running = await visit.engine.page(queue=queue, status=JobStatus.RUNNING, limit=RUNNING_JOBS)
        for job in running.jobs:
            if job.progress is not None:
                found[job.queue, job.id] = job.progress
    return found
