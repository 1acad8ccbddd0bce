"""The application of the web view: its routes, and what each of them needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from aiospinach import Engine, InvalidValue, Task
from aiospinach.views import OverviewReader

from . import actions
from .access import Access, AccessCheck
from .changes import changes
from .endpoint import endpoint
from .group_cache import GroupCache
from .headers import SecureHeaders
from .pages.dead import dead_page
from .pages.events import events_page
from .pages.job import job_page
from .pages.overview import overview_page
from .pages.periodic import periodic_page
from .pages.queue import queue_page
from .pages.schedule import schedule_page
from .pages.workers import workers_page
from .rendering import STATIC, compile_templates
from .site import Handler, Show, Site

PAGES: dict[str, tuple[Access, Handler]] = {
    "/": (Access.READ, overview_page),
    "/queue": (Access.READ, queue_page),
    "/job": (Access.READ, job_page),
    "/dead": (Access.READ, dead_page),
    "/periodic": (Access.READ, periodic_page),
    "/workers": (Access.READ, workers_page),
    "/events": (Access.READ, events_page),
    "/schedule": (Access.SCHEDULE, schedule_page),
}
STREAMS: dict[str, tuple[Access, Handler]] = {"/changes": (Access.READ, changes)}
ACTIONS: dict[str, tuple[Access, Handler]] = {
    "/cancel": (Access.CANCEL, actions.cancel),
    "/requeue": (Access.REQUEUE, actions.requeue),
    "/discard": (Access.DISCARD, actions.discard),
    "/run-now": (Access.RUN_NOW, actions.run_now),
    "/reschedule": (Access.RESCHEDULE, actions.reschedule),
    "/pause": (Access.PAUSE, actions.pause),
    "/resume": (Access.RESUME, actions.resume),
    "/requeue-group": (Access.REQUEUE, actions.requeue_group),
    "/discard-group": (Access.DISCARD, actions.discard_group),
    "/run-task": (Access.RUN_NOW, actions.run_task),
    "/schedule": (Access.SCHEDULE, actions.schedule),
}


def web_view(
    engine: Engine,
    *,
    access: AccessCheck,
    show: Show | None = None,
    title: str = "Jobs",
    schedulable: Collection[str | Task[..., Any]] | None = None,
    origins: Collection[str] = (),
) -> Starlette:
    """A web application that shows the queues, jobs and workers of an engine, and acts on them.

    ``app.mount("/jobs", web_view(engine, access=access))``. ``access`` takes each request, and returns what
    it may do: a plain or an async function. There is no default.

    ``show`` takes a Job, and returns what visitors may see of its arguments, by name. Without it no argument
    is shown. ``title`` names the environment, such as "Shop, staging". ``schedulable`` are the tasks that
    visitors with ``Access.SCHEDULE`` may schedule, themselves or by their names; by default all attached
    ones. ``origins`` are further origins, such as "https://admin.example.org", whose pages may send actions;
    they are needed only if a proxy changes the host of requests.

    The application may be mounted under any prefix, or be served on its own: it then opens and closes the
    engine. Raises InvalidValue.
    """
    if not isinstance(engine, Engine):
        raise InvalidValue(f"web_view() takes an Engine, not {type(engine).__name__}")
    if not callable(access):
        raise InvalidValue(
            "web_view(access=) takes a function of the request that returns an Access, such as"
            f" Access.READ, not {type(access).__name__}"
        )
    if show is not None and not callable(show):
        raise InvalidValue(f"web_view(show=) takes a function of a Job, not {type(show).__name__}")
    if not isinstance(title, str) or isinstance(origins, str) or isinstance(schedulable, str):
        raise InvalidValue("web_view() takes a text as title=, and collections as schedulable= and origins=")
    site = Site(
        engine=engine,
        access=access,
        show=show,
        title=title,
        schedulable=None if schedulable is None else frozenset(map(_name_of, schedulable)),
        origins=frozenset(origins),
        reader=OverviewReader(engine),
        groups=GroupCache(engine),
    )

    compile_templates()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with engine:
            yield

    seen = PAGES | STREAMS
    pages = [Route(path, endpoint(site, *page), methods=["GET"]) for path, page in seen.items()]
    posts = [Route(path, endpoint(site, *action), methods=["POST"]) for path, action in ACTIONS.items()]
    files = Mount("/static", StaticFiles(directory=STATIC))
    return Starlette(
        routes=[*pages, *posts, files], middleware=[Middleware(SecureHeaders)], lifespan=lifespan
    )


def _name_of(task: object) -> str:
    name = task.name if isinstance(task, Task) else task
    if not isinstance(name, str):
        raise InvalidValue(f"web_view(schedulable=) takes tasks or their names, not {type(name).__name__}")
    return name
