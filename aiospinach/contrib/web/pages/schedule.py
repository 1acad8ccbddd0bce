"""A form that schedules a job of a task, made of the task's type hints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from aiospinach import Task, UnknownTask

from ..call_form import Field, fields_of
from ..rendering import render
from ..site import Visit


class SchedulePage(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks to choose from, or the form of one."""

    tasks: Sequence[Task[..., Any]]
    task: Task[..., Any] | None
    description: str
    fields: Sequence[Field]
    at: str
    error: str


async def schedule_page(visit: Visit) -> Response:
    return render_form(visit, visit.query("task"), {}, "")


def render_form(visit: Visit, name: str, typed: Mapping[str, str], error: str) -> Response:
    """The form of a task, with what the visitor has typed and why it was refused; without a name, the list of
    tasks. Raises UnknownTask and UnsupportedType."""
    task = schedulable_task(visit, name) if name else None
    page = SchedulePage(
        tasks=[each for _, each in sorted(visit.engine.tasks.items()) if is_schedulable(visit, each.name)],
        task=task,
        description="" if task is None else (task.__doc__ or "").strip().partition("\n\n")[0],
        fields=[] if task is None else fields_of(task, typed),
        at=typed.get("at", ""),
        error=error,
    )
    return render(visit, "schedule.html", page, status=422 if error else 200)


def schedulable_task(visit: Visit, name: str) -> Task[..., Any]:
    """The task that the form may schedule. Raises UnknownTask."""
    task = visit.engine.tasks.get(name)
    if task is None or not is_schedulable(visit, name):
        raise UnknownTask(f"no task {name[:100]!r} can be scheduled here")
    return task


def is_schedulable(visit: Visit, name: str) -> bool:
    """Whether the owner of the view lets this task be scheduled."""
    return visit.site.schedulable is None or name in visit.site.schedulable
