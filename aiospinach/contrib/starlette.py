"""Workers that start and stop with a FastAPI or Starlette application, and the events of a job for a browser.

It imports neither: a lifespan is any function of the application that returns an async context manager. Only
``events_endpoint`` imports Starlette.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

from aiospinach import Engine, InvalidValue

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(
    engine: Engine,
    *,
    number: int = 5,
    queue: str | Sequence[str] | Mapping[str, int] | None = None,
    shutdown_timeout: float | timedelta = 25.0,
    inner: Lifespan | None = None,
) -> Lifespan:
    """A lifespan for an application whose event loop also runs the engine's jobs.

    ``FastAPI(lifespan=lifespan(engine, number=10))``. Workers run before the application takes requests,
    and drain after it has stopped taking them. The arguments are those of ``Engine.start_workers``.
    ``inner`` is the application's own lifespan. It is entered first and left last: jobs can use the resources
    that it opens. The state that it yields is the state of the application. Raises InvalidValue for an
    application in the place of the engine.
    """
    if not isinstance(engine, Engine):
        raise InvalidValue(
            f"lifespan() takes an Engine, not {type(engine).__name__}: pass lifespan=lifespan(engine)"
        )

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[Mapping[str, Any] | None]:
        async with _entered(inner, app) as state, engine:
            await engine.start_workers(number, queue, block=False, shutdown_timeout=shutdown_timeout)
            yield state

    return run


def events_endpoint(
    engine: Engine, *, access: Callable[[Any], bool | Awaitable[bool]], queue: str | None = None
) -> Callable[[Any], Awaitable[Any]]:
    """An endpoint that sends what becomes of one job to a browser, as server-sent events.

    ``app.add_route("/follow/{id}", events_endpoint(engine, access=may_see))`` in an application of Starlette
    or FastAPI. ``access`` takes the request, and returns whether it may see the job; it may be ``async``.
    Without access the answer is 403, and for a job that is not stored it is 404. ``queue`` is the queue of
    the jobs; None searches every queue of the attached tasks.

    The first message is ``state``: the status of the job and its progress. The others have the name of their
    event, and its fields as JSON. The stream ends with the job. A browser that connects again goes on behind
    the last message that it got, and gets 204 if there is nothing more. The extra ``aiospinach[starlette]``
    has what it needs. Raises InvalidValue for a wrong argument, or a broker that keeps no events.
    """
    if not isinstance(engine, Engine):
        raise InvalidValue(f"events_endpoint() takes an Engine, not {type(engine).__name__}")
    if not callable(access):
        raise InvalidValue(f"access= takes a function of the request, not {type(access).__name__}")
    engine.events(queue=queue)
    try:
        from .job_events import JobEvents
    except ImportError as error:
        raise InvalidValue(
            f"events_endpoint() needs {error.name}: pip install 'aiospinach[starlette]'"
        ) from error
    return JobEvents(engine, access, queue).respond


@asynccontextmanager
async def _entered(inner: Lifespan | None, app: Any) -> AsyncIterator[Mapping[str, Any] | None]:
    if inner is None:
        yield None
    else:
        async with inner(app) as state:
            yield state
