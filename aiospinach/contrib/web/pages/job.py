"""One job: why it does not run or what became of it, its history, its error, and what can be done."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from starlette.responses import Response

from aiospinach import DeadJob, Explanation, Job, JobStatus, Verdict

from ..rendering import render
from ..site import Show, Visit

logger: logging.Logger = logging.getLogger("aiospinach")

LONGEST_SHOWN = 2000
"""Characters of one value that ``show`` returned."""
MOST_SHOWN = 50


class Step(msgspec.Struct, frozen=True):
    """Something that happened to a job, or will happen."""

    label: str
    at: datetime


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """A job, and what is known of it."""

    id: str
    sentence: str
    verdict: Verdict
    job: Job | None
    steps: Sequence[Step] = ()
    dead: DeadJob | None = None
    shown: Mapping[str, str] | None = None
    """What ``show`` lets visitors see of the arguments; None if there is no ``show``."""
    asked_for_stack: bool = False
    stack: Sequence[str] | None = None

    @property
    def can_be_cancelled(self) -> bool:
        return self.job is not None and self.job.status in (
            JobStatus.WAITING,
            JobStatus.QUEUED,
            JobStatus.RUNNING,
        )

    @property
    def can_be_moved(self) -> bool:
        return self.job is not None and self.job.status in (JobStatus.WAITING, JobStatus.QUEUED)

    @property
    def runs(self) -> bool:
        return self.job is not None and self.job.status is JobStatus.RUNNING


async def job_page(visit: Visit) -> Response:
    job_id, queue = visit.query("id").strip(), visit.query("queue") or None
    scope = {"job": job_id, "queue": visit.query("queue")}
    with_stack = visit.query("stack") == "1"
    why = await visit.engine.explain(job_id, queue=queue, stack=with_stack)
    if why.job is None:
        page = JobPage(id=job_id, sentence=why.sentence, verdict=why.verdict, job=None)
        status = 404 if why.verdict is Verdict.UNKNOWN else 200
        return render(visit, "job.html", page, status=status, scope=scope)
    dead = await visit.engine.dead_job(why.job) if why.job.status is JobStatus.FAILED else None
    page = JobPage(
        id=job_id,
        sentence=why.sentence,
        verdict=why.verdict,
        job=why.job,
        steps=_steps_of(why, why.job, dead),
        dead=dead,
        shown=_shown(visit.site.show, why.job),
        asked_for_stack=with_stack,
        stack=why.stack,
    )
    return render(visit, "job.html", page, scope=scope)


def _steps_of(why: Explanation, job: Job, dead: DeadJob | None) -> list[Step]:
    """The history of the job, in the order of time."""
    steps = [Step("scheduled", job.created_at)]
    if job.at > job.created_at:
        steps.append(Step("due", job.at))
    if job.parked_at is not None:
        steps.append(Step("parked", job.parked_at))
    if job.started_at is not None:
        steps.append(Step("started", job.started_at))
    if dead is not None:
        steps.append(Step("died", dead.died_at))
    if why.until is not None and why.until != job.at:
        steps.append(Step("goes on", why.until))
    return sorted(steps, key=lambda step: step.at)


def _shown(show: Show | None, job: Job) -> Mapping[str, str] | None:
    """What ``show`` returns, as text. An error in it is logged, and its message is not shown."""
    if show is None:
        return None
    try:
        return {_cut(str(name)): _cut(str(value)) for name, value in list(show(job).items())[:MOST_SHOWN]}
    except Exception as error:
        logger.warning(
            "web_view(show=) raised %s for a job of task %s: its arguments are not shown",
            type(error).__name__,
            job.task_name,
        )
        return {"": f"show= raised {type(error).__name__}"}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} …"
