"""Periodic tasks: when they are due, and what became of their last jobs."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.responses import Response

from aiospinach import Job, Pause, PeriodicTask

from ..rendering import render
from ..site import Visit
from .slices import Slice, slice_of

ROWS = 40


class PeriodicRow(msgspec.Struct, frozen=True, kw_only=True):
    """A periodic task."""

    task: PeriodicTask
    last: Job | None
    """The job of its last tick, if it lives or is dead."""
    pause: Pause | None
    """The pause of the task, or else of its queue."""
    is_attached: bool
    """This process has the task, and can schedule it."""


class PeriodicPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some periodic tasks."""

    rows: Slice[PeriodicTask]
    tasks: list[PeriodicRow]


async def periodic_page(visit: Visit) -> Response:
    engine = visit.engine
    part = slice_of(await engine.periodic_tasks(), visit.query("from"), ROWS)
    pauses = {(pause.queue, pause.task): pause for pause in await engine.pauses()}

    async def row_of(task: PeriodicTask) -> PeriodicRow:
        return PeriodicRow(
            task=task,
            last=None if task.last_id is None else await engine.job(task.last_id, queue=task.queue),
            pause=pauses.get((task.queue, task.task)) or pauses.get((task.queue, None)),
            is_attached=task.task in engine.tasks,
        )

    rows = await asyncio.gather(*(row_of(task) for task in part.rows))
    return render(visit, "periodic.html", PeriodicPage(rows=part, tasks=rows), scope={})
