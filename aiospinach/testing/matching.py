"""Finds scheduled jobs by some of their arguments and by their moment, and lists jobs in messages."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ..exceptions import InvalidArguments, InvalidValue
from ..job import Job
from ..task import Task
from ..timing import from_milliseconds, to_milliseconds

TOLERANCE = timedelta(seconds=1)
"""``after`` may differ by so much: code takes the time, adds a delay to it, and schedules a little later."""
LISTED_AT_MOST = 20
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


class Expected:
    """The jobs of a task with these leading and these named arguments, at this moment."""

    def __init__(
        self,
        task: Task[..., Any],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        after: timedelta | None,
        at: datetime | None,
    ) -> None:
        if after is not None and not isinstance(after, timedelta):
            raise InvalidValue(f"after= takes a timedelta, not {type(after).__name__}")
        self._task = task
        self._args = args
        self._kwargs = kwargs
        self._after = after
        self._at = None if at is None else from_milliseconds(to_milliseconds(at, what="at="))
        self._signature = _signature_of(task)
        try:
            self._arguments = self._signature.bind_partial(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidArguments(f"no job of task {task.name!r} has these arguments: {error}") from None

    def __str__(self) -> str:
        moment = "" if self._after is None else f" after {self._after}"
        moment += "" if self._at is None else f" at {self._at}"
        return f"{_call(self._task.name, self._args, self._kwargs)}{moment}"

    def nearest_first(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs of the task, and then all others."""
        return sorted(jobs, key=lambda job: job.task_name != self._task.name)

    def find(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that match, in their order."""
        return [job for job in jobs if self._matches(job)]

    def _matches(self, job: Job) -> bool:
        if job.task_name != self._task.name or (self._at is not None and job.at != self._at):
            return False
        if self._after is not None and abs(job.at - job.created_at - self._after) > TOLERANCE:
            return False
        bound = self._signature.bind_partial(*job.args, **job.kwargs)
        bound.apply_defaults()
        return all(self._fits(name, value, bound.arguments) for name, value in self._arguments.items())

    def _fits(self, name: str, value: Any, arguments: dict[str, Any]) -> bool:
        kind = self._signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return bool(arguments[name][: len(value)] == value)
        if kind is inspect.Parameter.VAR_KEYWORD:
            return all(key in arguments[name] and arguments[name][key] == value[key] for key in value)
        return name in arguments and bool(arguments[name] == value)


def listed(jobs: Sequence[Job]) -> str:
    """One line for each of the first jobs, with its arguments and its moment."""
    if not jobs:
        return " none"
    lines = [f"  {_shown(job)}" for job in jobs[:LISTED_AT_MOST]]
    if (others := len(jobs) - LISTED_AT_MOST) > 0:
        lines.append(f"  and {others} more")
    return "\n".join(["", *lines])


def _signature_of(task: Task[..., Any]) -> inspect.Signature:
    """The signature of the task's function, without the parameters that workers fill in."""
    signature = inspect.signature(task.function)
    injected = () if task._injection is None else task._injection.names
    return signature.replace(
        parameters=[each for each in signature.parameters.values() if each.name not in injected]
    )


def _shown(job: Job) -> str:
    call = _call(job.task_name, job.args, job.kwargs)
    delay = job.at - job.created_at
    return f"{call} at {job.at}" + (f", after {delay}" if delay else ", at once")


def _call(name: str, args: tuple[object, ...], kwargs: dict[str, Any]) -> str:
    parts = [*map(_repr.repr, args), *(f"{key}={_repr.repr(value)}" for key, value in kwargs.items())]
    return f"{name}({', '.join(parts)})"
