"""The web view of a developer, served on the machine where the browser is."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from aiospinach import Engine, Job

from .access import Access
from .view import web_view

OWN_HOSTS = ("127.0.0.1", "localhost")


def local_view(engine: Engine, *, title: str) -> ASGIApp:
    """The web view with every right, which shows the arguments of jobs.

    It answers requests to this machine alone. So a page of another site cannot act on it, even if its name
    leads to the address of this machine.
    """

    def arguments_of(job: Job) -> Mapping[str, object]:
        bound = engine.tasks[job.task_name].signature.bind(*job.args, **job.kwargs)
        return {name: repr(value) for name, value in bound.arguments.items()}

    view = web_view(
        engine, access=lambda request: Access.ALL | Access.SCHEDULE, show=arguments_of, title=title
    )
    return TrustedHostMiddleware(view, allowed_hosts=OWN_HOSTS, www_redirect=False)
