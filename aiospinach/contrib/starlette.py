"""Workers that start and stop with a FastAPI or Starlette application.

It imports neither: a lifespan is any function of the application that returns an async context manager.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

from aiospinach import Engine, InvalidValue

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(
    engine: Engine,
    *,
    number: int = 5,
    queue: str | Sequence[str] | None = None,
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


@asynccontextmanager
async def _entered(inner: Lifespan | None, app: Any) -> AsyncIterator[Mapping[str, Any] | None]:
    if inner is None:
        yield None
    else:
        async with inner(app) as state:
            yield state
