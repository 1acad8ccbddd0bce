"""Jobs that an endpoint of FastAPI collects, and that are stored when the endpoint has succeeded.

FastAPI is imported when ``jobs`` is called, and not before.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, ParamSpec, overload

from aiospinach import AiospinachError, Batch, BatchPartlyStored, BrokerError, Engine, InvalidValue, Task

P = ParamSpec("P")

logger: logging.Logger = logging.getLogger("aiospinach")

RETRY_AFTER = 5
"""Seconds after which a client may repeat a request whose jobs could not be stored."""
IDS_LOGGED = 100
"""How many ids of a partly stored batch are logged at most."""


class Jobs:
    """The jobs that one request collects: they are stored together when its endpoint has succeeded."""

    def __init__(self) -> None:
        self._batch = Batch()
        self._has_ended = False

    def __len__(self) -> int:
        return len(self._batch)

    @overload
    def schedule(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def schedule(self, task: str, /, *args: Any, **kwargs: Any) -> None: ...
    def schedule(self, task: Any, /, *args: Any, **kwargs: Any) -> None:
        """Collect a job that may run at once.

        Raises the errors of ``Batch.schedule``, and AiospinachError when the endpoint has ended.
        """
        self._check_open()
        self._batch.schedule(task, *args, **kwargs)

    @overload
    def schedule_at(self, task: Task[P, Any], at: datetime, /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def schedule_at(self, task: str, at: datetime, /, *args: Any, **kwargs: Any) -> None: ...
    def schedule_at(self, task: Any, at: datetime, /, *args: Any, **kwargs: Any) -> None:
        """Collect a job that may run from ``at`` on; a naive datetime means UTC.

        Raises the same as ``schedule``.
        """
        self._check_open()
        self._batch.schedule_at(task, at, *args, **kwargs)

    def _check_open(self) -> None:
        if self._has_ended:
            raise AiospinachError(
                "the endpoint has ended, and collects no more jobs: in a background task or in the body of a"
                " streaming response use 'await engine.schedule(...)'"
            )


def jobs(engine: Engine) -> Callable[..., Awaitable[Jobs]]:
    """A dependency that collects jobs: ``jobs: Annotated[Jobs, Depends(jobs(engine))]``.

    All parts of a request that depend on it share one ``Jobs``. When the endpoint has succeeded, and before
    its response is sent, the jobs are stored with one call for each queue. If the endpoint raises, no job is
    stored. If the broker cannot store them, the response is 503 with a Retry-After. No call is made if there
    are no jobs. The endpoint of a websocket raises AiospinachError: it has no response that could report a
    loss.

    Raises InvalidValue for an object that is no engine, and ImportError for FastAPI 0.118 to 0.120, which
    sends a response before it ends dependencies.
    """
    from fastapi import Depends
    from fastapi.requests import HTTPConnection

    if not isinstance(engine, Engine):
        raise InvalidValue(f"jobs() takes an Engine, not {type(engine).__name__}: Depends(jobs(engine))")

    options: dict[str, Any] = {"scope": "function"} if _has_scopes() else {}

    async def collected(
        connection: Any,
        jobs: Jobs = Depends(_Collect(engine), **options),  # noqa: B008
    ) -> Jobs:
        if connection.scope["type"] != "http":
            raise AiospinachError(
                "jobs() is for endpoints that send a response: in an endpoint of a websocket use"
                " 'await engine.schedule(...)'"
            )
        return jobs

    # A local name, which FastAPI would not find in a string.
    collected.__annotations__["connection"] = HTTPConnection
    return collected


class _Collect:
    """Makes the ``Jobs`` of a request, and stores them. FastAPI calls equal ones once for a request."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Collect) and other._engine is self._engine

    def __hash__(self) -> int:
        return hash(self._engine)

    async def __call__(self) -> AsyncIterator[Jobs]:
        jobs = Jobs()
        try:
            yield jobs  # raises the error of the endpoint
        finally:
            jobs._has_ended = True
        if jobs:
            await _store(self._engine, jobs._batch)


async def _store(engine: Engine, batch: Batch) -> None:
    """Store a batch. Raises the HTTPException of a response 503 if the broker cannot."""
    from fastapi import HTTPException

    try:
        await engine.schedule_batch(batch)
    except BrokerError as error:
        if isinstance(error, BatchPartlyStored):
            _log_partly_stored(engine, error)
        detail = "the jobs of this request could not be stored: try again later"
        raise HTTPException(503, detail, headers={"Retry-After": str(RETRY_AFTER)}) from error


def _log_partly_stored(engine: Engine, error: BatchPartlyStored) -> None:
    ids = [job.id for job in error.stored]
    logger.error(
        "%d jobs of a request that failed are stored, and will run: %s%s (%s)",
        len(ids),
        ", ".join(ids[:IDS_LOGGED]),
        ", ..." if len(ids) > IDS_LOGGED else "",
        error,
        extra={
            "namespace": engine.namespace,
            **dict.fromkeys(("queue", "task_name", "job_id", "worker")),
        },
    )


def _has_scopes() -> bool:
    """Whether dependencies have scopes: without them, they must end before the response is sent."""
    import fastapi

    if "scope" in inspect.signature(fastapi.Depends).parameters:
        return True
    if tuple(map(int, fastapi.__version__.split(".")[:2])) >= (0, 118):
        raise ImportError(
            f"jobs() needs FastAPI 0.121 or newer, not {fastapi.__version__}: this release sends a response"
            " before it ends dependencies, and the client would not see that its jobs are lost"
        )
    return False
