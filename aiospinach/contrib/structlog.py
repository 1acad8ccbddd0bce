"""The job on each event of structlog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from typing import Any

from structlog.contextvars import bind_contextvars, reset_contextvars

from aiospinach import Engine, Job, signals

from .connections import Connections

_bound: ContextVar[tuple[Mapping[str, Token[Any]], ...]] = ContextVar("aiospinach_structlog", default=())
"""How to unbind the values of each job: one job is within another if a body awaits ``engine.execute``."""


def instrument(engine: Engine) -> Callable[[], None]:
    """Bind ``job_id``, ``task_name``, ``queue`` and ``job_try`` for all events that a job logs.

    The values are bound before the body runs, also for a body in a thread, and unbound after the job has
    finished. The processor ``structlog.contextvars.merge_contextvars`` adds them to events. ``job_try`` is 1
    at the first try.

    Returns a function that undoes this; a second call of it does nothing. Raises InvalidValue if the
    namespace of the engine is instrumented already.
    """
    with Connections("structlog", engine) as connections:
        connections.add(signals.job_started, _bind)
        connections.add(signals.job_finished, _unbind)
        return connections.undo


def _bind(namespace: str, job: Job, **kwargs: Any) -> None:
    tokens = bind_contextvars(
        job_id=job.id, task_name=job.task_name, queue=job.queue, job_try=job.retries + 1
    )
    _bound.set((*_bound.get(), tokens))


def _unbind(namespace: str, **kwargs: Any) -> None:
    if bound := _bound.get():
        reset_contextvars(**bound[-1])
        _bound.set(bound[:-1])
