"""One job as a page: its explanation first, then what it is, its stack and its error."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from textual.content import Content

from aiospinach import DeadJob, Explanation, Job, Verdict
from aiospinach.views import age, moment, printable, progress_text, status_name

from .cell import BAD, CAREFUL, GOOD, MUTED, STRONG
from .jobs import tries_of

LABEL_COLUMNS = 10
_STYLES = {
    **dict.fromkeys((Verdict.RUNNING, Verdict.ENDED), GOOD),
    **dict.fromkeys((Verdict.DEAD, Verdict.LOST, Verdict.UNREADABLE), BAD),
    **dict.fromkeys((Verdict.QUEUED, Verdict.NOT_DUE, Verdict.UNKNOWN), ""),
}
"""Verdicts that are not here hold a job back: they ask for care."""


class Stack(NamedTuple):
    """Where the body of the job was, at one moment."""

    at: datetime
    frames: tuple[str, ...] | None
    """None: the job does not run, or its worker has not answered."""


class JobSeen(NamedTuple):
    """All that the page of a job shows."""

    job: Job
    """As it was seen last."""
    explanation: Explanation
    now: datetime
    dead: DeadJob | None = None
    stack: Stack | None = None


def job_page(seen: JobSeen) -> Content:
    """Return the page. It shows no arguments; of a dead job, it shows the kept message and traceback."""
    return Content("\n").join(_lines(seen))


def _lines(seen: JobSeen) -> Iterator[Content]:
    explanation = seen.explanation
    style = _STYLES.get(explanation.verdict, CAREFUL)
    sentence = printable(f"Job {seen.job.id} {explanation.sentence}.")
    yield Content.styled(sentence, f"{STRONG} {style}".strip())
    yield Content("")
    for label, value in _fields(seen):
        yield Content.assemble((label.ljust(LABEL_COLUMNS), MUTED), printable(value))
    if seen.stack is not None:
        yield from _stack_lines(seen.stack)
    if seen.dead is not None:
        yield from _death_lines(seen.dead, seen.now)


def _fields(seen: JobSeen) -> Iterator[tuple[str, str]]:
    job = seen.explanation.job or seen.job
    yield "task", job.task_name or "unreadable"
    yield "id", job.id
    yield "queue", job.queue
    yield "status", status_name(job.status) if seen.explanation.job is not None else "stored no more"
    yield "created", _when(job.created_at, seen.now)
    if job.at != job.created_at:
        yield "due", _when(job.at, seen.now)
    if job.started_at is not None:
        yield "started", _when(job.started_at, seen.now)
    if job.worker:
        yield "worker", job.worker
    if job.progress is not None:
        yield "progress", progress_text(job.progress)
    yield "try", tries_of(job).replace("/", " of ")
    if job.crashes:
        yield "crashes", f"{job.crashes} of its workers disappeared"
    if job.key:
        yield "key", job.key
    if job.error and seen.dead is None:
        yield "error", job.error
    if job.parked_at is not None:
        yield "parked", _when(job.parked_at, seen.now)


def _when(at: datetime, now: datetime) -> str:
    seconds = (now - at).total_seconds()
    return f"{moment(at)}, {f'{age(seconds)} ago' if seconds >= 0 else f'in {age(-seconds)}'}"


def _stack_lines(stack: Stack) -> Iterator[Content]:
    yield Content("")
    yield Content.styled(f"Stack at {stack.at:%H:%M:%S} UTC", STRONG)
    if stack.frames is None:
        yield Content.styled(
            "The job does not run, or its worker has not answered within two seconds.", MUTED
        )
    else:
        yield from (Content(f"  {printable(frame)}") for frame in stack.frames)


def _death_lines(dead: DeadJob, now: datetime) -> Iterator[Content]:
    yield Content("")
    yield Content.assemble(
        (f"Died {_when(dead.died_at, now)}", STRONG), (f"  reason: {printable(dead.reason)}", MUTED)
    )
    if dead.error or dead.message:
        message = f": {printable(dead.message)}" if dead.message else ""
        yield Content.styled(f"{printable(dead.error)}{message}", BAD)
    if dead.traceback:
        yield Content("")
        yield from (Content.styled(printable(line), MUTED) for line in dead.traceback.splitlines())
