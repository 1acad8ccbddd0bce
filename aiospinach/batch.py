"""A batch: jobs that are collected here, and stored together by ``Engine.schedule_batch``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, ParamSpec, overload

import msgspec

from .exceptions import BatchTooLarge, InvalidValue
from .task import Task
from .timing import to_milliseconds

P = ParamSpec("P")

JOBS_LIMIT = 10_000
BYTES_LIMIT = 8 * 1024 * 1024


class BatchEntry(msgspec.Struct, frozen=True):
    """One call of a task, from which ``Engine.schedule_batch`` makes a job."""

    task: Task[..., Any] | str
    at: int | None
    """Milliseconds since 1970; None: as soon as possible."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    body: bytes | None
    """The arguments as they will be stored; None if the task was given by its name."""


class Batch:
    """Jobs that ``await engine.schedule_batch(batch)`` stores together.

    A batch holds at most 10,000 jobs and 8 MB of arguments. If a task is given itself rather than by its
    name, its arguments are checked when they are added.
    """

    def __init__(self) -> None:
        self._entries: list[BatchEntry] = []
        self._bytes = 0

    @overload
    def schedule(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Batch: ...
    @overload
    def schedule(self, task: str, /, *args: Any, **kwargs: Any) -> Batch: ...
    def schedule(self, task: Any, /, *args: Any, **kwargs: Any) -> Batch:
        """Add a job that may run at once. Returns the batch, so that calls can be chained.

        Raises InvalidArguments, InvalidValue or BatchTooLarge, and then leaves the batch as it was.
        """
        return self._add(task, None, args, kwargs)

    @overload
    def schedule_at(
        self, task: Task[P, Any], at: datetime, /, *args: P.args, **kwargs: P.kwargs
    ) -> Batch: ...
    @overload
    def schedule_at(self, task: str, at: datetime, /, *args: Any, **kwargs: Any) -> Batch: ...
    def schedule_at(self, task: Any, at: datetime, /, *args: Any, **kwargs: Any) -> Batch:
        """Add a job that may run from ``at`` on; a naive datetime means UTC.

        Returns and raises the same as ``schedule``.
        """
        return self._add(task, to_milliseconds(at, what="schedule_at()"), args, kwargs)

    def __iter__(self) -> Iterator[BatchEntry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} jobs>"

    def _add(self, task: Any, at: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Batch:
        if len(self._entries) >= JOBS_LIMIT:
            raise BatchTooLarge(f"a batch holds at most {JOBS_LIMIT:,} jobs; start another")
        if isinstance(task, Task):
            body = task._arguments.encode(args, kwargs)
            self._bytes = check_bytes(self._bytes + len(body))
        elif isinstance(task, str):
            body = None
        else:
            raise InvalidValue(f"schedule() takes a task or its name, not {type(task).__name__}")
        self._entries.append(BatchEntry(task, at, args, kwargs, body))
        return self


def check_bytes(count: int) -> int:
    """Return the number of bytes, or raise BatchTooLarge."""
    if count > BYTES_LIMIT:
        raise BatchTooLarge(f"a batch holds at most {BYTES_LIMIT:,} bytes of arguments; start another")
    return count
