"""What a visitor of the web view may do."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable

from starlette.requests import Request

from aiospinach import InvalidValue


class Access(enum.Flag):
    """What one request may do: a set of actions, such as ``Access.READ | Access.REQUEUE``."""

    NONE = 0
    READ = enum.auto()
    """See all pages. Without it, no action is allowed either."""
    CANCEL = enum.auto()
    """Cancel jobs."""
    REQUEUE = enum.auto()
    """Run dead jobs again, one or a group."""
    DISCARD = enum.auto()
    """Forget dead jobs, one or a group."""
    RUN_NOW = enum.auto()
    """Run waiting jobs at once, and periodic tasks once more."""
    RESCHEDULE = enum.auto()
    """Move jobs to another moment."""
    PAUSE = enum.auto()
    """Pause queues and tasks."""
    RESUME = enum.auto()
    """End pauses."""
    SCHEDULE = enum.auto()
    """Schedule jobs with arguments of one's choice. It is not in ALL: it has to be granted by its name."""
    ALL = READ | CANCEL | REQUEUE | DISCARD | RUN_NOW | RESCHEDULE | PAUSE | RESUME


AccessCheck = Callable[[Request], Access | Awaitable[Access]]
"""Returns what a request may do. It may raise an HTTPException of Starlette, as for a login."""


async def access_of(check: AccessCheck, request: Request) -> Access:
    """What the request may do. Raises InvalidValue if the check returned something else than an Access."""
    found = check(request)
    if inspect.isawaitable(found):
        found = await found
    if not isinstance(found, Access):
        raise InvalidValue(
            "web_view(access=) takes a function that returns an Access, and it returned"
            f" {type(found).__name__}"
        )
    return found
