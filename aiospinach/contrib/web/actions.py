"""The actions of the view. Each takes a form, changes something, and sends the visitor back to the page.

An action that cannot be undone is carried out only if the form says that the visitor is sure. Otherwise a
page asks for that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
from starlette.responses import RedirectResponse, Response

from aiospinach import InvalidArguments, InvalidValue, JobStatus
from aiospinach.views import number

from .call_form import arguments_of
from .links import is_link, link_with
from .pages.schedule import render_form, schedulable_task
from .rendering import render
from .site import Form, Visit

MOST_JOBS = 200
"""How many selected jobs an action takes."""
REQUEUE_GROUP = (
    "requeue-group",
    "Queue all dead jobs of task {} with the error {} again? They run as if they had never run before.",
    "Requeue all",
)
DISCARD_GROUP = (
    "discard-group",
    "Discard all dead jobs of task {} with the error {}? Their arguments and their errors are forgotten.",
    "Discard all",
)
"""The path of the action, its question and its button."""
MOVED = (JobStatus.WAITING, JobStatus.QUEUED)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Asks a visitor who is about to do something that cannot be undone."""

    action: str
    """The path of the action."""
    text: str
    button: str
    fields: list[tuple[str, str]]
    """The form, to be sent again."""
    back: str


async def cancel(visit: Visit) -> Response:
    form = await visit.form()
    text = "Cancel {}? A job that is cancelled never runs again. The body of a running job is cancelled, too."
    if (question := _asked(visit, form, "cancel", text, "Cancel {}")) is not None:
        return question

    async def act(job_id: str, queue: str | None) -> bool:
        return await visit.engine.cancel(job_id, queue=queue) is not JobStatus.NOT_SET

    return await _each(form, "cancelled", act)


async def requeue(visit: Visit) -> Response:
    async def act(job_id: str, queue: str | None) -> bool:
        return await visit.engine.requeue(job_id, queue=queue)

    response = await _each(await visit.form(), "requeued", act)
    visit.site.groups.forget()
    return response


async def discard(visit: Visit) -> Response:
    form = await visit.form()
    text = "Discard {}? Its arguments and its error are forgotten."
    if (question := _asked(visit, form, "discard", text, "Discard {}")) is not None:
        return question

    async def act(job_id: str, queue: str | None) -> bool:
        return await visit.engine.discard(job_id, queue=queue)

    response = await _each(form, "discarded", act)
    visit.site.groups.forget()
    return response


async def run_now(visit: Visit) -> Response:
    async def act(job_id: str, queue: str | None) -> bool:
        return await visit.engine.reschedule(job_id, None, queue=queue) in MOVED

    return await _each(await visit.form(), "run", act)


async def reschedule(visit: Visit) -> Response:
    form = await visit.form()
    at = _moment(form.one("at"))

    async def act(job_id: str, queue: str | None) -> bool:
        return await visit.engine.reschedule(job_id, at, queue=queue) in MOVED

    return await _each(form, "moved", act)


async def pause(visit: Visit) -> Response:
    form = await visit.form()
    minutes = form.one("minutes").strip()
    if minutes and not (minutes.isascii() and minutes.isdigit() and 0 < int(minutes[:9]) <= 1_000_000):
        raise InvalidValue("a pause takes a number of minutes, up to 1,000,000; without it, it has no end")
    length = 60.0 * int(minutes) if minutes else None
    reason = form.one("reason").strip()
    task, queue = _target(visit, form)
    await visit.engine.pause(task, queue=queue, for_=length, reason=reason)
    return _back(form, "paused", 1)


async def resume(visit: Visit) -> Response:
    form = await visit.form()
    task, queue = _target(visit, form)
    return _back(form, "resumed", int(await visit.engine.resume(task, queue=queue)))


async def requeue_group(visit: Visit) -> Response:
    return await _change_group(visit, discards=False)


async def discard_group(visit: Visit) -> Response:
    return await _change_group(visit, discards=True)


async def run_task(visit: Visit) -> Response:
    """Schedule a job of a periodic task at once; its ticks stay as they are."""
    form = await visit.form()
    name = form.one("task")
    task = visit.engine.tasks.get(name)
    if task is None or task.periodicity is None:
        raise InvalidValue(f"{name[:100]!r} is no periodic task of this engine")
    await visit.engine.schedule(task)
    return _back(form, "run", 1)


async def schedule(visit: Visit) -> Response:
    form = await visit.form()
    name = form.one("task")
    typed = {field: form.one(field) for field in form.fields}
    task = schedulable_task(visit, name)
    try:
        at = _moment(form.one("at")) if form.one("at").strip() else None
        args, kwargs = arguments_of(task, typed)
        if at is None:
            job = await visit.engine.schedule(name, *args, **kwargs)
        else:
            job = await visit.engine.schedule_at(name, at, *args, **kwargs)
    except (InvalidArguments, InvalidValue) as error:
        return render_form(visit, name, typed, str(error))
    return _redirect(link_with("job", id=job.id, queue=job.queue, done="scheduled", count=1))


async def _each(form: Form, note: str, act: Callable[[str, str | None], Awaitable[bool]]) -> Response:
    """Act on each selected job, and go back."""
    job_ids = _job_ids(form)
    queue = form.one("queue") or None
    return _back(form, note, sum([await act(job_id, queue) for job_id in job_ids]))


def _job_ids(form: Form) -> list[str]:
    job_ids = list(dict.fromkeys(form.all("id")))
    if not job_ids:
        raise InvalidValue("no job is selected: select some, and choose the action then")
    if len(job_ids) > MOST_JOBS:
        raise InvalidValue(f"at most {MOST_JOBS} jobs can be selected, and these are {len(job_ids)}")
    return job_ids


def _asked(visit: Visit, form: Form, action: str, text: str, button: str) -> Response | None:
    """The page that asks about selected jobs; None if the visitor is sure."""
    if form.one("sure") == "yes":
        return None
    job_ids = _job_ids(form)
    jobs = f"the job {job_ids[0]}" if len(job_ids) == 1 else f"{number(len(job_ids))} jobs"
    few = "this job" if len(job_ids) == 1 else "these jobs"
    return _ask(visit, form, action, text.format(jobs), button.format(few))


async def _change_group(visit: Visit, *, discards: bool) -> Response:
    """Requeue or discard all dead jobs of a group, once the visitor is sure."""
    form = await visit.form()
    question = DISCARD_GROUP if discards else REQUEUE_GROUP
    if (asked := _asked_of_group(visit, form, *question)) is not None:
        return asked
    change = visit.engine.discard_dead if discards else visit.engine.requeue_dead
    group = {name: form.one(name) for name in ("queue", "task", "error")}
    count = await change(**group)
    visit.site.groups.forget(**group)
    return _back(form, "discarded" if discards else "requeued", count)


def _asked_of_group(visit: Visit, form: Form, action: str, text: str, button: str) -> Response | None:
    """The page that asks about a group of dead jobs; None if the visitor is sure."""
    if not all(form.one(name) for name in ("queue", "task")) or "error" not in form:
        raise InvalidValue("a group of dead jobs has a queue, a task and an error")
    if form.one("sure") == "yes":
        return None
    return _ask(
        visit, form, action, text.format(form.one("task"), form.one("error") or "that is not known"), button
    )


def _ask(visit: Visit, form: Form, action: str, text: str, button: str) -> Response:
    fields = [(name, value) for name, values in form.fields.items() for value in values if name != "sure"]
    question = Question(action=action, text=text, button=button, fields=fields, back=_page_before(form))
    return render(visit, "question.html", question)


def _target(visit: Visit, form: Form) -> tuple[str | None, str | None]:
    """The task and the queue of a pause, as ``Engine.pause`` takes them."""
    task, queue = form.one("task") or None, form.one("queue") or None
    is_attached = task is not None and task in visit.engine.tasks
    return task, None if is_attached else queue


def _moment(text: str) -> datetime:
    """The moment of a field, in UTC. Raises InvalidValue."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidValue("a moment takes a date and a time in UTC, such as 2026-11-29T08:00") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _page_before(form: Form) -> str:
    """The page that the visitor came from; the overview if it is none of the view."""
    back = form.one("back")
    return back if is_link(back) else "./"


def _back(form: Form, note: str, count: int) -> Response:
    return _redirect(link_with(_page_before(form), done=note, count=count))


def _redirect(url: str) -> Response:
    """Go to a page with GET. The URL is relative, since a proxy may have stripped a prefix."""
    response = RedirectResponse("./", status_code=303)
    response.headers["Location"] = url
    return response
